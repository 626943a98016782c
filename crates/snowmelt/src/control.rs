//! What the server asks of the process around it: an iteration now, status, health and metrics of all roles. Nothing
//! here changes a role.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use model::position::Partition;
use serde_json::{Value, json};
use serving::{BatchAnswer, BatchRequest, Control, ControlError, Health};

use crate::process::Process;
use crate::{health, metrics};

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
                    "the generation before it stays and answers; a rebuild is not tried again by itself".to_owned()
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
        let now = Instant::now();
        let cut = self.lambda.served().cut.clone();
        let age = |partition: &Partition, position| {
            self.watch.age(partition, position, now).as_secs_f64()
        };
        let partitions = speed.partitions.iter().map(|it| {
            json!({
                "partition": it.partition.as_str(),
                "raw_end": it.raw_end.to_string(),
                "visible_to": it.visible_to.to_string(),
                "frontier_lag_seconds": age(&it.partition, it.visible_to),
                "archive_lag_seconds": age(&it.partition, batch.archived.of(&it.partition)),
                "cut_age_seconds": age(&it.partition, cut.of(&it.partition)),
                "held_up": it.stalled,
            })
        });
        let partitions: Vec<Value> = partitions.collect();
        json!({
            "partitions": partitions,
            "collector": {
                "requests": self.intake.counters.requests(),
                "accepted": self.intake.counters.accepted(),
                "connections_open": self.intake.counters.connections_open(),
            },
            "speed": {
                "recipe": speed.recipe,
                "frontier": self.speed.frontier(),
                "records": tally.records,
                "enriched": tally.counts.enriched,
                "failed": tally.counts.failed,
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
        metrics::print(self)
    }

    fn health(&self) -> Health {
        health::check(self)
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
}
