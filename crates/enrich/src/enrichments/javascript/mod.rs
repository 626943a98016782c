//! Scripts of the user's own, in JavaScript: they read and change the event, add entities, or drop it.
//! Snowplow: `enrichments.md` 19.
//!
//! A script reaches nothing but its event, and what it does follows from the event alone: `prelude.js` says how. Each
//! thread has an engine of its own for each script ([`machine`]). Java classes, which Snowplow's scripts can use, are
//! not here.

mod machine;
mod stage;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::bad_row::EnrichmentError;
use serde::Deserialize;
use serde_json::{Map, Value};

use self::machine::{Ending, Machine};
use self::stage::{Stage, described};
use super::{Assets, Enrichment, Kind, Work};
use crate::entity::Entity;
use crate::json;

pub(super) const KIND: Kind = Kind {
    name: "javascript_script_config",
    criterion: "iglu:com.snowplowanalytics.snowplow/javascript_script_config/jsonschema/1-0-*",
    schema: include_str!("../javascript.schema.json"),
    identifier: "Javascript enrichment",
    many: true,
    assets: |data| script_file(data).into_iter().map(str::to_owned).collect(),
    build: |data, assets: &Assets| {
        let read: Data = serde_json::from_value(data.clone()).map_err(|error| error.to_string())?;
        let source = match (read.parameters.script, script_file(data)) {
            (Some(script), _) => decode(&script)?,
            (None, Some(address)) => match assets.get(address) {
                Some(asset) => asset.text()?.to_owned(),
                None => return Err(format!("its file {address} is missing")),
            },
            (None, None) => return Err("`script` or `scriptFile` is missing".to_owned()),
        };
        Ok(Box::new(Javascript::new(source, read.parameters.config)?))
    },
};

#[derive(Deserialize)]
struct Data {
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Parameters {
    script: Option<String>,
    config: Option<Map<String, Value>>,
}

fn script_file(data: &Value) -> Option<&str> {
    data["parameters"]["scriptFile"].as_str()
}

/// Either alphabet of base64, with or without padding.
fn decode(script: &str) -> Result<String, String> {
    const CONFIG: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let plain = script.replace('-', "+").replace('_', "/");
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, CONFIG).decode(plain.trim());
    let bytes = bytes.map_err(|error| format!("`script` is not base64: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "`script` is not UTF-8 inside its base64".to_owned())
}

/// A script that was read and can be called.
#[derive(Debug)]
struct Javascript(Arc<Script>);

#[derive(Debug)]
struct Script {
    source: String,
    /// The text of the configuration's `config`.
    config: Option<String>,
}

thread_local! {
    /// This thread's machines. Those of scripts that are no more go when another is added.
    static MACHINES: RefCell<Vec<(Weak<Script>, Machine)>> = const { RefCell::new(Vec::new()) };
}

impl Javascript {
    fn new(source: String, config: Option<Map<String, Value>>) -> Result<Javascript, String> {
        let config = config.map(|config| Value::Object(config).to_string());
        let mut machine = Machine::new(&source).map_err(|what| format!("the script: {what}"))?;
        match machine.defines_process() {
            Ok(true) => Ok(Javascript(Arc::new(Script { source, config }))),
            Ok(false) => Err("the script defines no function `process`".to_owned()),
            Err(what) => Err(format!("the script: {what}")),
        }
    }

    /// This thread's machine, taken out of its place.
    fn machine(&self) -> Machine {
        let ours = |(script, _): &(Weak<Script>, Machine)| script.as_ptr() == Arc::as_ptr(&self.0);
        MACHINES.with_borrow_mut(|machines| {
            let found = machines.iter().position(ours).map(|at| machines.swap_remove(at).1);
            found.unwrap_or_else(|| {
                machines.retain(|(script, _)| script.strong_count() > 0);
                self.new_machine()
            })
        })
    }

    fn new_machine(&self) -> Machine {
        Machine::new(&self.0.source).expect("the script was read before")
    }

    fn put_back(&self, machine: Machine) {
        let entry = (Arc::downgrade(&self.0), machine);
        MACHINES.with_borrow_mut(|machines| machines.push(entry));
    }

    /// Calls the script. Gives the ending, and the stage as the call has left it.
    fn call(&self, work: &mut Work<'_>) -> (Ending, Stage) {
        let mut machine = self.machine();
        machine.stage.borrow_mut().take(work);
        let call =
            |machine: &mut Machine| machine.call(self.0.config.as_deref(), &work.request.headers);
        let was_used = machine.is_used;
        let mut ending = call(&mut machine);
        if was_used && matches!(ending, Ending::Beyond(_)) {
            let mut stage = machine.stage.take();
            stage.take_back();
            machine = self.new_machine();
            *machine.stage.borrow_mut() = stage;
            ending = call(&mut machine);
        }
        let stage = machine.stage.take();
        if machine.is_clean(&ending) {
            self.put_back(machine);
        }
        (ending, stage)
    }
}

impl Enrichment for Javascript {
    fn run(&self, work: &mut Work<'_>) -> Result<(), Vec<EnrichmentError>> {
        let (ending, mut stage) = self.call(work);
        stage.give_back(work);
        if stage.is_dropped {
            work.dropped = Some(KIND.name.to_owned());
            return Ok(());
        }
        let text = match ending {
            Ending::Returned(None) => return Ok(()),
            Ending::Returned(Some(text)) => text,
            Ending::Threw(what) => return Err(execution(&what)),
            Ending::Beyond(bound) => return Err(execution(&bound.to_string())),
        };
        let entities = entities(&text, work.json_depth_max)?;
        if stage.is_erased {
            work.derived.clear();
        }
        // The first of them stands before the others.
        work.derived.extend(entities.into_iter().rev());
        Ok(())
    }
}

/// What the script returned, as entities.
fn entities(text: &str, depth_max: u32) -> Result<Vec<Entity>, Vec<EnrichmentError>> {
    let no_array = || failure("JavaScript result is not read as an array".to_owned());
    // What has no JSON, such as a function, has an empty text.
    if text.is_empty() {
        return Err(no_array());
    }
    let value = json::parse(text, depth_max).map_err(|what| execution(&what))?;
    let Value::Array(items) = value else { return Err(no_array()) };
    let entities: Result<_, _> = items.into_iter().map(described).collect();
    entities.map_err(|what: String| {
        // The spelling is Snowplow's.
        failure(format!("Resulting contexts are not self-desribing. Error(s): [{what}]"))
    })
}

fn execution(what: &str) -> Vec<EnrichmentError> {
    failure(format!("Error during execution of JavaScript function: [{what}]"))
}

fn failure(error: String) -> Vec<EnrichmentError> {
    vec![EnrichmentError::Simple { error }]
}
