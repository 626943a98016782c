//! What the server asks of the process around it: an iteration now, status, health and metrics of all roles.
//!
//! Put together by [`crate::roles`]; the metrics' names are part of the contract with dashboards. Nothing here changes a
//! role.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::counters::Counters;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use serving::{BatchAnswer, BatchRequest, Control, ControlError, Health};
use views::lambda::Lambda;

/// What the server asks of the process around it.
pub(crate) struct Process {
    pub(crate) batch: batch::service::Handle,
    pub(crate) speed: Arc<speed::Running>,
    pub(crate) collector: Arc<Counters>,
    pub(crate) lambda: Arc<Lambda>,
    pub(crate) answers: Arc<assets::Answers>,
}

impl Control for Process {
    fn batch<'a>(
        &'a self,
        request: BatchRequest,
    ) -> BoxFuture<'a, Result<BatchAnswer, ControlError>> {
        let handle = self.batch.clone();
        Box::pin(async move {
            let failed = |message: String| ControlError {
                code: "batch_failed".to_owned(),
                message,
                hint: if request.rebuild {
                    "the generation before it stays and nothing is lost; a rebuild is not tried again by itself".to_owned()
                } else {
                    "nothing was published and nothing is lost; the batch layer tries again by itself".to_owned()
                },
            };
            let run = move || if request.rebuild { handle.rebuild_now() } else { handle.run_now() };
            match tokio::task::spawn_blocking(run).await {
                Ok(Ok(iterated)) => {
                    self.served(iterated.iteration).await?;
                    Ok(BatchAnswer { iteration: iterated.iteration, published: iterated.published })
                }
                Ok(Err(error)) => Err(failed(format!("{:#}", anyhow::Error::from(error)))),
                Err(panicked) => Err(failed(panicked.to_string())),
            }
        })
    }

    fn status(&self) -> Value {
        let (speed, batch) = (self.speed.status(), self.batch.status());
        let tally = speed.tally();
        json!({
            "collector": {
                "requests": self.collector.requests(),
                "accepted": self.collector.accepted(),
                "connections_open": self.collector.connections_open(),
            },
            "speed": {
                "recipe": speed.recipe,
                "frontier": self.speed.frontier(),
                "records": tally.records,
                "enriched": tally.counts.enriched,
                "bad": tally.counts.bad,
                "held_up": speed.stalled(),
                "waiting_partitions": speed.waiting(),
            },
            "facts": self.answers.stats().facts,
            "batch": {
                "iteration": batch.iteration,
                "archived": batch.archived,
                "running": batch.running.is_some(),
                "rebuilding": batch.rebuilding,
                "rebuild_error": batch.rebuild_error,
                "error": batch.error,
                "recipe_error": batch.recipe_error,
            },
        })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        self.collector_metrics(&mut text);
        self.speed_metrics(&mut text);
        self.batch_metrics(&mut text);
        self.registry_metrics(&mut text);
        text
    }

    fn health(&self) -> Health {
        let (speed, batch) = (self.speed.status(), self.batch.status());
        let trouble = [
            speed.stalled().map(|reason| format!("the speed layer is held up: {reason}")),
            batch.stopped.map(|reason| format!("the batch layer has stopped: {reason}; restart")),
            batch.error.map(|error| format!("the batch layer fails and tries again: {error}")),
            batch.recipe_error.map(|error| format!("the recipe in force stays: {error}")),
        ];
        trouble.into_iter().flatten().next().map_or(Health::Ok, Health::Unwell)
    }
}

impl Process {
    /// Waits until statements are answered from this iteration, or a later one.
    async fn served(&self, iteration: u64) -> Result<(), ControlError> {
        let patience = Instant::now() + Duration::from_secs(120);
        while self.lambda.served().iteration < iteration {
            if Instant::now() > patience {
                return Err(ControlError {
                    code: "not_yet_served".to_owned(),
                    message: format!("iteration {iteration} is published, but not served yet"),
                    hint: "the speed layer still derives what lies above its cut with the new recipe; \
                           `/api/v1/status` shows how far it is"
                        .to_owned(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn collector_metrics(&self, text: &mut String) {
        let counters = &self.collector;
        metric(
            text,
            "snowmelt_collector_requests_total",
            "counter",
            "requests answered",
            counters.requests(),
        );
        metric(
            text,
            "snowmelt_collector_accepted_total",
            "counter",
            "records made durable",
            counters.accepted(),
        );
        metric(
            text,
            "snowmelt_collector_accepted_bytes_total",
            "counter",
            "their bytes",
            counters.accepted_bytes(),
        );
        metric(
            text,
            "snowmelt_collector_connections",
            "gauge",
            "open connections",
            counters.connections_open(),
        );
        header(text, "snowmelt_collector_rejected_total", "counter", "requests refused, by reason");
        for (reason, count) in counters.rejected_by_reason() {
            let _ = writeln!(
                text,
                "snowmelt_collector_rejected_total{{reason=\"{}\"}} {count}",
                reason.as_str()
            );
        }
    }

    fn speed_metrics(&self, text: &mut String) {
        let status = self.speed.status();
        let tally = status.tally();
        metric(
            text,
            "snowmelt_speed_records_total",
            "counter",
            "raw records enriched",
            tally.records,
        );
        header(text, "snowmelt_speed_outcomes_total", "counter", "outcomes, by kind");
        let counts = tally.counts;
        for (kind, count) in [
            ("enriched", counts.enriched),
            ("failed", counts.failed),
            ("bad", counts.bad),
            ("dropped", counts.dropped),
        ] {
            let _ = writeln!(text, "snowmelt_speed_outcomes_total{{kind=\"{kind}\"}} {count}");
        }
        header(text, "snowmelt_speed_bad_rows_total", "counter", "bad rows, by schema");
        for (schema, count) in &tally.bad_by_schema {
            let _ = writeln!(text, "snowmelt_speed_bad_rows_total{{schema=\"{schema}\"}} {count}");
        }
        header(text, "snowmelt_speed_caught_up", "gauge", "whether all of a partition is visible");
        for partition in &status.partitions {
            let caught_up = u8::from(partition.visible_to >= partition.raw_end);
            let _ = writeln!(
                text,
                "snowmelt_speed_caught_up{{partition=\"{}\"}} {caught_up}",
                partition.partition
            );
        }
        let held_up = u64::from(status.stalled().is_some());
        metric(
            text,
            "snowmelt_speed_held_up",
            "gauge",
            "whether a partition cannot go on",
            held_up,
        );
        let realtime = self.lambda.realtime().metrics();
        metric(
            text,
            "snowmelt_realtime_rows",
            "gauge",
            "events in the real-time view",
            realtime.event_rows,
        );
        metric(
            text,
            "snowmelt_realtime_memory_bytes",
            "gauge",
            "its memory",
            realtime.memory_bytes,
        );
        metric(
            text,
            "snowmelt_realtime_spilled_chunks",
            "gauge",
            "chunks in spill/",
            realtime.spilled_chunks,
        );
    }

    fn registry_metrics(&self, text: &mut String) {
        let stats = self.answers.stats();
        let help = "answers of registries on disk";
        metric(text, "snowmelt_facts", "gauge", help, stats.facts);
        metric(text, "snowmelt_facts_bytes", "gauge", "their bytes", stats.bytes);
        let name = "snowmelt_registry_questions_total";
        header(text, name, "counter", "questions to registries, by what came of them");
        for (registry, said, count) in &stats.questions {
            // As Prometheus wants a label's value written.
            let registry = registry.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let result = said.as_str();
            let _ = writeln!(text, "{name}{{registry=\"{registry}\",result=\"{result}\"}} {count}");
        }
        let waiting = self.speed.status().waiting() as u64;
        let help = "partitions that wait for a registry";
        metric(text, "snowmelt_waiting_partitions", "gauge", help, waiting);
    }

    fn batch_metrics(&self, text: &mut String) {
        let status = self.batch.status();
        metric(text, "snowmelt_batch_iteration", "gauge", "the newest iteration", status.iteration);
        metric(
            text,
            "snowmelt_batch_records_total",
            "counter",
            "records put below the cut",
            status.records,
        );
        metric(
            text,
            "snowmelt_batch_failures",
            "gauge",
            "failed attempts in a row",
            status.failures.into(),
        );
    }
}

fn metric(text: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    header(text, name, kind, help);
    let _ = writeln!(text, "{name} {value}");
}

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
