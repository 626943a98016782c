//! A JavaScript engine with one script in it, for one thread: QuickJS by `rquickjs`.
//!
//! What a call gives depends on the script and the event alone, not on the events before it. Most of that is the work
//! of `prelude.js`; what is here are the bounds. A machine that has been used counts its steps a little differently from
//! a new one, so whoever hits a bound in a used machine tries once more in a new one, and that result counts.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

use model::event::COLUMNS;
use rquickjs::context::intrinsic;
use rquickjs::convert::Coerced;
use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Exception, FromJs, Function, IntoJs, Object,
    Persistent, Runtime, Value,
};

use super::stage::{Given, Got, Json, Stage};

/// The most memory of a machine, in bytes.
const MEMORY_BYTES_MAX: usize = 64 << 20;

/// The most of the thread's stack, in bytes.
const STACK_BYTES_MAX: usize = 256 << 10;

/// The engine asks once in ten thousand steps, which are calls and turns of loops, whether to go on.
const STEPS_A_QUESTION: u32 = 10_000;

/// So often a call may be asked.
const QUESTIONS_MAX: u32 = 50;

/// The most steps of a call.
const STEPS_MAX: u32 = STEPS_A_QUESTION * QUESTIONS_MAX;

/// No clock, no weak references, no other ways out.
type Intrinsics = (
    intrinsic::Date,
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);

/// An engine and the script that it was made for.
pub(super) struct Machine {
    // Functions before the engine that they belong to: that is the order in which they are dropped.
    factory: Persistent<Function<'static>>,
    functions: Functions,
    context: Context,
    runtime: Runtime,
    pub(super) stage: Rc<RefCell<Stage>>,
    fuel: Rc<Fuel>,
    pub(super) is_used: bool,
}

/// Those of the prelude.
struct Functions {
    defines: Persistent<Function<'static>>,
    run: Persistent<Function<'static>>,
    clean: Persistent<Function<'static>>,
}

#[derive(Default)]
struct Fuel {
    questions: Cell<u32>,
    is_out: Cell<bool>,
    /// Something was left behind that cannot be taken away.
    is_soiled: Cell<bool>,
}

/// How a call ended.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    /// The JSON text that the script returned, if it did.
    Returned(Option<String>),
    /// What was thrown, in words.
    Threw(String),
    Beyond(Bound),
}

/// What a call has taken too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Steps,
    Memory,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Steps => write!(f, "the script takes more than {STEPS_MAX} steps"),
            Bound::Memory => write!(f, "the script takes more than {MEMORY_BYTES_MAX} bytes"),
        }
    }
}

impl Machine {
    /// Reads the script; runs nothing of it.
    ///
    /// # Errors
    /// What is wrong with the script's text.
    pub(super) fn new(source: &str) -> Result<Machine, String> {
        let runtime = Runtime::new().expect("there is memory for an engine");
        runtime.set_memory_limit(MEMORY_BYTES_MAX);
        runtime.set_max_stack_size(STACK_BYTES_MAX);
        let fuel = Rc::new(Fuel::default());
        fuel.questions.set(u32::MAX);
        let asked = Rc::clone(&fuel);
        runtime.set_interrupt_handler(Some(Box::new(move || asked.stops())));
        let context = Context::custom::<Intrinsics>(&runtime).expect("there is memory for it");
        let stage = Rc::new(RefCell::new(Stage::default()));
        let (functions, factory) = context.with(|ctx| {
            let prelude = prelude(&ctx, &stage, &fuel).catch(&ctx);
            let prelude = prelude.unwrap_or_else(|error| panic!("the prelude: {error}"));
            let function = |name: &str| {
                let function: Function<'_> = prelude.get(name).expect("the prelude has it");
                Persistent::save(&ctx, function)
            };
            let functions = Functions {
                defines: function("defines"),
                run: function("run"),
                clean: function("clean"),
            };
            let load: Function<'_> = prelude.get("load").expect("the prelude has it");
            let factory = load.call::<_, Function<'_>>((source,)).catch(&ctx);
            let factory = factory.map_err(|error| in_words(error))?;
            Ok::<_, String>((functions, Persistent::save(&ctx, factory)))
        })?;
        Ok(Machine { factory, functions, context, runtime, stage, fuel, is_used: false })
    }

    /// Whether the script defines `process`, found by running what stands around it.
    ///
    /// # Errors
    /// What was thrown, or the bound that was hit.
    pub(super) fn defines_process(&mut self) -> Result<bool, String> {
        let ending = self.bounded(|ctx, machine| {
            let defines = machine.functions.defines.clone().restore(ctx)?;
            let is_there: bool = defines.call((machine.factory.clone().restore(ctx)?,))?;
            Ok(is_there.then(String::new))
        });
        match ending {
            Ending::Returned(there) => Ok(there.is_some()),
            Ending::Threw(what) => Err(what),
            Ending::Beyond(bound) => Err(bound.to_string()),
        }
    }

    /// Calls the script with the event that is on the stage.
    pub(super) fn call(&mut self, config: Option<&str>, headers: &[Cow<'_, str>]) -> Ending {
        self.bounded(|ctx, machine| {
            let run = machine.functions.run.clone().restore(ctx)?;
            let factory = machine.factory.clone().restore(ctx)?;
            let headers: Vec<&str> = headers.iter().map(|header| &**header).collect();
            run.call((factory, config, headers))
        })
    }

    /// Whether the next event finds the machine as this one did.
    pub(super) fn is_clean(&self, ending: &Ending) -> bool {
        if self.runtime.is_job_pending() || self.fuel.is_soiled.get() {
            return false;
        }
        match ending {
            // The prelude has looked.
            Ending::Returned(_) => true,
            Ending::Threw(_) => self.context.with(|ctx| {
                let clean = self.functions.clean.clone().restore(&ctx);
                clean.and_then(|clean| clean.call::<_, bool>(())).unwrap_or(false)
            }),
            Ending::Beyond(_) => false,
        }
    }

    fn bounded(
        &mut self,
        call: impl for<'js> FnOnce(&Ctx<'js>, &Machine) -> rquickjs::Result<Option<String>>,
    ) -> Ending {
        self.is_used = true;
        self.fuel.questions.set(QUESTIONS_MAX);
        let machine = &*self;
        let result = machine.context.with(|ctx| call(&ctx, machine).catch(&ctx).map_err(in_words));
        let is_out = machine.fuel.is_out.get();
        machine.fuel.questions.set(u32::MAX);
        match result {
            _ if is_out => Ending::Beyond(Bound::Steps),
            Ok(text) => Ending::Returned(text),
            Err(what) if what.contains("out of memory") => Ending::Beyond(Bound::Memory),
            Err(what) => Ending::Threw(what),
        }
    }
}

impl Fuel {
    /// Answers the engine.
    fn stops(&self) -> bool {
        match self.questions.get() {
            u32::MAX => false,
            0 => true,
            left => {
                self.questions.set(left - 1);
                // It stays so for the rest of the machine's life.
                self.is_out.set(left == 1);
                left == 1
            }
        }
    }
}

/// Evaluates the prelude with the functions that reach the stage.
fn prelude<'js>(
    ctx: &Ctx<'js>,
    stage: &Rc<RefCell<Stage>>,
    fuel: &Rc<Fuel>,
) -> rquickjs::Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    let on = |name: &str, function: Function<'js>| native.set(name, function);
    let new = || Rc::clone(stage);
    let throw = |ctx: &Ctx<'js>, result: Result<(), String>| {
        result.map_err(|what| Exception::throw_type(ctx, &what))
    };

    let it = new();
    on("get", Function::new(ctx.clone(), move |at: usize| it.borrow().get(at))?)?;
    let it = new();
    let set =
        move |ctx: Ctx<'js>, at: usize, given: Given| throw(&ctx, it.borrow_mut().set(at, given));
    on("set", Function::new(ctx.clone(), set)?)?;
    let it = new();
    let json = move |json: u32| it.borrow().json(Json::of_number(json));
    on("json", Function::new(ctx.clone(), json)?)?;
    let it = new();
    let put = move |ctx: Ctx<'js>, json: u32, text: Option<String>| {
        throw(&ctx, it.borrow_mut().put(Json::of_number(json), text.as_deref()))
    };
    on("put", Function::new(ctx.clone(), put)?)?;
    let it = new();
    on("drop", Function::new(ctx.clone(), move || it.borrow_mut().is_dropped = true)?)?;
    let it = new();
    on("erase", Function::new(ctx.clone(), move || it.borrow_mut().is_erased = true)?)?;
    let it = new();
    on("now", Function::new(ctx.clone(), move || it.borrow().now_ms())?)?;
    let it = new();
    on("random", Function::new(ctx.clone(), move || it.borrow_mut().random())?)?;
    let it = Rc::clone(fuel);
    on("soil", Function::new(ctx.clone(), move || it.is_soiled.set(true))?)?;

    let columns: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let prelude: Function<'js> = ctx.eval(include_str!("prelude.js"))?;
    prelude.call((native, columns))
}

impl<'js> IntoJs<'js> for Got {
    fn into_js(self, ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
        match self {
            Got::Null => Ok(Value::new_null(ctx.clone())),
            Got::Number(number) => number.into_js(ctx),
            Got::Text(text) => text.into_js(ctx),
        }
    }
}

impl<'js> FromJs<'js> for Given {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> rquickjs::Result<Given> {
        if value.is_null() || value.is_undefined() {
            Ok(Given::Null)
        } else if let Some(bit) = value.as_bool() {
            Ok(Given::Bool(bit))
        } else if let Some(number) = value.as_number() {
            Ok(Given::Number(number))
        } else {
            Coerced::<String>::from_js(ctx, value).map(|text| Given::Text(text.0))
        }
    }
}

/// `Error: what is wrong`, as JavaScript prints it.
fn in_words(error: CaughtError<'_>) -> String {
    match error {
        CaughtError::Exception(exception) => {
            let name: Option<Coerced<String>> = exception.get("name").ok();
            let name = name.map_or_else(|| "Error".to_owned(), |name| name.0);
            match exception.message() {
                Some(message) if !message.is_empty() => format!("{name}: {message}"),
                _ => name,
            }
        }
        CaughtError::Value(value) => {
            let ctx = value.ctx().clone();
            Coerced::<String>::from_js(&ctx, value)
                .map_or_else(|_| "an object".to_owned(), |it| it.0)
        }
        CaughtError::Error(error) => error.to_string(),
    }
}
