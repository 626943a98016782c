//! What scripts see and do, and what they cannot.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::trial::{self, Trial, contexts, entities};
use super::super::{Assets, Config};
use crate::Outcome;

fn config(file: &str, script: &str) -> Config {
    let parameters = json!({"script": URL_SAFE_NO_PAD.encode(script)});
    trial::config(file, "/javascript_script_config/jsonschema/1-0-1", &parameters)
}

/// A script whose `process` has this body.
fn body(body: &str) -> Trial {
    script(&format!("function process(event, params, headers) {{ {body} }}"))
}

fn script(script: &str) -> Trial {
    Trial::of(vec![config("a.json", script)])
}

/// What `process` with this body returns as the data of an entity.
fn value_of(expression: &str) -> Value {
    let trial = body(&format!(
        "return [{{schema: 'iglu:com.acme/u/jsonschema/1-0-0', data: {{it: {expression}}}}}];"
    ));
    only_value(&trial, &[])
}

fn only_value(trial: &Trial, parameters: &[(&str, &str)]) -> Value {
    let event = trial.event(parameters);
    entities(event.derived_contexts.as_deref())[0]["data"]["it"].clone()
}

fn refusal(script: &str) -> String {
    let result = Trial::with_assets(vec![config("a.json", script)], &Assets::new());
    result.err().expect("it is refused").to_string()
}

const U: &str = "iglu:com.acme/u/jsonschema/1-0-0";

fn unstruct(schema: &str, data: &Value) -> String {
    let envelope = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0";
    json!({"schema": envelope, "data": {"schema": schema, "data": data}}).to_string()
}

#[test]
fn a_script_reads_and_writes_columns_of_every_type() {
    let trial = body(
        "event.setUser_id(event.getApp_id() + '-' + event.getPage_urlport());
         event.setTxn_id(7); event.setBr_cookies(true); event.setSe_value(1.5); event.setTr_total('12.50');
         event.setGeo_latitude(0.1); event.setTrue_tstamp('2026-11-22 10:00:00.123');
         event.setMkt_term(12.5); event.setSe_label(event.getGeo_latitude() + ' ' + event.getCollector_tstamp());
         event.setPage_title(null); event.setSe_action(''); event.setSe_category(undefined);
         event.setDerived_contexts('x'); event.setMkt_medium(event.getMkt_source() === null);",
    );
    let event = trial.event(&[("url", "https://a.example/"), ("page", "p"), ("se_ac", "a")]);
    assert_eq!(event.user_id.as_deref(), Some("shop-443"));
    assert_eq!((event.txn_id, event.br_cookies), (Some(7), Some(true)));
    assert_eq!(event.se_value.unwrap().as_str(), "1.5");
    assert_eq!(event.tr_total.unwrap().as_str(), "12.50");
    assert_eq!((event.geo_latitude, event.mkt_term.as_deref()), (Some(0.1), Some("12.5")));
    assert_eq!(event.true_tstamp.unwrap().to_tsv(), "2026-11-22 10:00:00.123");
    assert_eq!(event.se_label.as_deref(), Some("0.1 2026-09-21 14:13:20.000"));
    assert_eq!((event.page_title, event.se_action, event.se_category), (None, None, None));
    assert_eq!((event.mkt_medium.as_deref(), event.derived_contexts), (Some("true"), None));
}

#[test]
fn what_a_column_cannot_take_is_an_error_that_a_script_can_catch() {
    for (call, expected) in [
        ("event.setTxn_id(1.5)", "txn_id takes a whole number of 32 bits"),
        ("event.setTxn_id('x')", "txn_id takes a whole number"),
        ("event.setBr_cookies(2)", "br_cookies takes 0 or 1"),
        ("event.setTr_total('1,5')", "tr_total takes a number"),
        ("event.setGeo_latitude(NaN)", "geo_latitude takes a number"),
        ("event.setTrue_tstamp('yesterday')", "true_tstamp takes a text like"),
        ("event.setNothing('x')", "not a function"),
        ("event.setUnstruct_event('{}')", "not self-describing"),
        ("event.setContexts('[')", "invalid json"),
    ] {
        let failures = body(call).failures(&[]);
        assert_eq!(failures.len(), 1);
        let beginning = "Error during execution of JavaScript function: [TypeError: ";
        assert!(
            failures[0].starts_with(beginning) && failures[0].contains(expected),
            "{failures:?}"
        );
        let caught = body(&format!("try {{ {call} }} catch (e) {{ event.setSe_label('' + e) }}"));
        assert!(caught.event(&[]).se_label.unwrap().contains(expected));
    }
}

#[test]
fn what_was_changed_before_an_error_stays() {
    let trial = body("event.setUser_id('x'); throw new Error('boom')");
    assert_eq!(
        trial.failures(&[]),
        ["Error during execution of JavaScript function: [Error: boom]"]
    );
    let outcomes = trial.outcomes(&[]);
    let Outcome::Bad(row) = &outcomes[0] else { panic!("{outcomes:?}") };
    let row = row.to_json(&crate::processor(), model::time::Timestamp(0));
    assert!(row.contains("\"user_id\":\"x\""), "{row}");
    assert_eq!(
        body("throw 3").failures(&[]),
        ["Error during execution of JavaScript function: [3]"]
    );
}

#[test]
fn what_a_script_returns_becomes_entities_before_those_that_are_there() {
    let entity = |it: &str| format!("{{schema: '{U}', data: {{it: {it}}}}}");
    let first = config(
        "a.json",
        &format!("function process(event) {{ return [{}, {}] }}", entity("1"), entity("2")),
    );
    let see = format!(
        "function process(event) {{ return [{}] }}",
        entity("JSON.parse(event.getDerived_contexts()).data.length")
    );
    let erase = "function process(event) { event.eraseDerived_contexts(); return [] }";
    let its = |configs: Vec<Config>| -> Vec<Value> {
        let event = Trial::of(configs).event(&[]);
        entities(event.derived_contexts.as_deref())
            .iter()
            .map(|it| it["data"]["it"].clone())
            .collect()
    };
    assert_eq!(its(vec![first.clone()]), [json!(1), json!(2)]);
    // In the order of the files' names, whatever order they are given in.
    assert_eq!(its(vec![config("b.json", &see), first.clone()]), [json!(2), json!(1), json!(2)]);
    assert_eq!(
        its(vec![
            first.clone(),
            config("b.json", erase),
            config("c.json", "function process() {}")
        ]),
        Vec::<Value>::new()
    );
    let keeps = "function process(event) { event.eraseDerived_contexts(); throw 1 }";
    let outcomes = Trial::of(vec![first, config("b.json", keeps)]).outcomes(&[]);
    assert!(matches!(&outcomes[..], [Outcome::Bad(_)]));
    for nothing in ["null", "undefined", "[]"] {
        assert_eq!(body(&format!("return {nothing}")).event(&[]).derived_contexts, None);
    }
    assert_eq!(value_of("[undefined, NaN, 1.0, 'ž\\ud83d']"), json!([null, null, 1, "ž\u{fffd}"]));
}

#[test]
fn what_is_no_list_of_entities_is_a_failure() {
    let mut deep = "1".to_owned();
    (0..60).for_each(|_| deep = format!("[{deep}]"));
    for (returned, expected) in [
        ("{}", "not read as an array"),
        ("'x'", "not read as an array"),
        ("process", "not read as an array"),
        ("[1]", "Resulting contexts are not self-desribing"),
        ("[{schema: 'iglu:a', data: {}}]", "Resulting contexts are not self-desribing"),
        (deep.as_str(), "maximum allowed JSON depth"),
        ("(() => { const a = []; a.push(a); return a })()", "TypeError: circular"),
        ("[1n]", "TypeError"),
    ] {
        let failures = body(&format!("return {returned}")).failures(&[]);
        assert!(failures.len() == 1 && failures[0].contains(expected), "{returned}: {failures:?}");
    }
    // One that does not obey its schema fails later, as any entity does.
    let outcomes =
        body("return [{schema: 'iglu:com.acme/u/jsonschema/1-0-0', data: 1}]").outcomes(&[]);
    let Outcome::Bad(row) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(
        row.to_json(&crate::processor(), model::time::Timestamp(0)).contains("schema_violations")
    );
}

#[test]
fn a_script_may_drop_the_event_whatever_else_is_wrong_with_it() {
    for drop in ["event.drop(); event.setUser_id('x')", "try { event.drop() } catch (e) {} throw 1"]
    {
        let outcomes = body(drop).outcomes(&[("ue_pr", "{")]);
        assert!(
            matches!(&outcomes[..], [Outcome::Dropped { rule }] if rule == "javascript_script_config")
        );
    }
    let trial = Trial::of(vec![
        config("a.json", "function process(event) { event.drop() }"),
        config("b.json", "function process() { while (true) {} }"),
    ]);
    assert!(matches!(&trial.outcomes(&[])[..], [Outcome::Dropped { .. }]), "no later script runs");
}

#[test]
fn json_that_a_script_has_replaced_is_checked_again() {
    let rewrite = |schema: &str, data: &str| {
        body(&format!(
            "const it = JSON.parse(event.getUnstruct_event()); it.data = {{schema: '{schema}', data: {data}}};
             event.setUnstruct_event(JSON.stringify(it));"
        ))
    };
    let sent = unstruct(U, &json!({"a": 1}));
    let parameters = [("e", "ue"), ("ue_pr", sent.as_str())];
    let event = rewrite("iglu:com.acme/v/jsonschema/1-0-0", "{b: 2}").event(&parameters);
    assert_eq!(entities(event.unstruct_event.as_deref())[0]["data"], json!({"b": 2}));
    let outcomes = rewrite(U, "3").outcomes(&parameters);
    assert!(
        matches!(&outcomes[..], [Outcome::Bad(row)] if format!("{row:?}").contains("SchemaViolations"))
    );

    let sent = contexts(&json!([{"schema": U, "data": {}}]));
    let none = body("event.setContexts(null)").event(&[("co", &sent)]);
    assert_eq!(none.contexts, None);
    let two = body(
        "const it = JSON.parse(event.getContexts()); it.data.push(it.data[0]); event.setContexts(JSON.stringify(it))",
    );
    assert_eq!(entities(two.event(&[("co", &sent)]).contexts.as_deref()).len(), 2);
}

#[test]
fn params_are_the_configuration_and_headers_are_all_of_them() {
    let mut with = config(
        "a.json",
        "function process(event, params, headers) { event.setUser_id(params.a[1] + headers[1]); params.a[1] += 1 }",
    );
    with.json["data"]["parameters"]["config"] = json!({"a": [1, 2]});
    let mut trial = Trial::of(vec![with]);
    trial.headers = vec!["A: b".to_owned(), "C: ž".to_owned()];
    for _ in 0..2 {
        assert_eq!(trial.event(&[]).user_id.as_deref(), Some("2C: ž"));
    }
    assert_eq!(value_of("JSON.stringify(params)"), json!("{}"));
}

#[test]
fn time_and_chance_follow_from_the_record() {
    let at = "2026-09-21T14:13:20.000Z";
    for (expression, expected) in [
        ("new Date().toISOString()", json!(at)),
        ("Date.now()", json!(1_790_000_000_000_i64)),
        ("Date()", json!("Mon Sep 21 2026 14:13:20 GMT+0000 (UTC)")),
        ("new Date(2026, 0, 31, 10).toISOString()", json!("2026-01-31T10:00:00.000Z")),
        ("new Date('2026-01-31T10:00:00').toISOString()", json!("2026-01-31T10:00:00.000Z")),
        ("new Date('2026-01-31').toISOString()", json!("2026-01-31T00:00:00.000Z")),
        ("new Date('2026-01-31T10:00:00+02:00').toISOString()", json!("2026-01-31T08:00:00.000Z")),
        ("new Date('Jan 31 2026 10:00').toISOString()", json!("2026-01-31T10:00:00.000Z")),
        (
            "new Date('Sat, 31 Jan 2026 10:00:00 GMT').toISOString()",
            json!("2026-01-31T10:00:00.000Z"),
        ),
        ("Date.parse('Sat, 31 Jan 2026 10:00:00 -0100')", json!(1_769_857_200_000_i64)),
        ("new Date(0).getHours() + new Date(0).getTimezoneOffset()", json!(0)),
        ("new Date(new Date(5)).getTime()", json!(5)),
        ("new Date('no').getTimezoneOffset()", json!(null)),
        ("'' + new Date(NaN)", json!("Invalid Date")),
        (
            "(() => { const d = new Date(0); d.setHours(13); return d.toLocaleString() })()",
            json!("01/01/1970, 01:00:00 PM"),
        ),
        ("new Date(0) instanceof Date && new Date(0).constructor === Date", json!(true)),
        ("(() => { class Day extends Date {} return new Day(7).getTime() })()", json!(7)),
        (
            "typeof performance + typeof WeakRef + typeof Atomics + typeof FinalizationRegistry",
            json!("undefinedundefinedundefinedundefined"),
        ),
    ] {
        assert_eq!(value_of(expression), expected, "{expression}");
    }
    let mut trial =
        body(&format!("return [{{schema: '{U}', data: {{it: [Math.random(), Math.random()]}}}}]"));
    let seen = only_value(&trial, &[]);
    assert_eq!(only_value(&trial, &[]), seen, "the same record");
    assert_ne!(seen[0], seen[1]);
    assert!(seen[0].as_f64().unwrap() < 1.0);
    trial.offset += 1;
    assert_ne!(only_value(&trial, &[]), seen, "another record");
}

#[test]
fn a_script_that_cannot_be_used_is_refused_at_the_start() {
    assert!(refusal("function process(event) { return").contains("SyntaxError"));
    assert!(refusal("const a = 1;").contains("defines no function `process`"));
    assert!(refusal("throw new Error('early'); function process() {}").contains("Error: early"));
    assert!(refusal("for (;;) {} function process() {}").contains("more than 500000 steps"));
    let mut not_base64 = config("a.json", "");
    not_base64.json["data"]["parameters"]["script"] = json!("%%%");
    let result = Trial::with_assets(vec![not_base64], &Assets::new());
    assert!(result.err().unwrap().to_string().contains("not base64"));
    // Both alphabets, with padding or without, and a file.
    let source = "function process(event) { event.setUser_id('ž?>~') }";
    let mut standard = config("a.json", "");
    standard.json["data"]["parameters"]["script"] = json!(STANDARD.encode(source));
    assert_eq!(Trial::of(vec![standard]).event(&[]).user_id.as_deref(), Some("ž?>~"));
    let file = trial::config(
        "a.json",
        "/javascript_script_config/jsonschema/1-0-1",
        &json!({"scriptFile": "file:///a.js"}),
    );
    let trial =
        Trial::with_assets(vec![file.clone()], &trial::asset("file:///a.js", source)).unwrap();
    assert_eq!(trial.event(&[]).user_id.as_deref(), Some("ž?>~"));
    assert!(Trial::with_assets(vec![file], &Assets::new()).is_err());
}

/// Each of these ends, in bounded time and memory, as a failure of its event; the events after it are not touched.
#[test]
fn hostile_scripts_are_stopped() {
    let begun = Instant::now();
    for (hostile, expected) in [
        ("while (true) {}", "more than 500000 steps"),
        (
            "try { while (true) {} } catch (e) {} finally { while (true) {} }",
            "more than 500000 steps",
        ),
        ("for (;;) { try { throw 1 } catch (e) { continue } }", "steps"),
        ("/^(a+)+$/.test('a'.repeat(40) + 'b')", "steps"),
        ("const a = []; for (;;) a.push(new Array(1000).fill('x'))", "more than 67108864 bytes"),
        ("let s = 'x'; for (;;) s += s", "Error"),
        ("'x'.repeat(2 ** 30)", "Error"),
        ("new Uint8Array(2 ** 31)", "Error"),
        ("(function f() { f() })()", "stack"),
        ("JSON.parse('['.repeat(1000000))", "Error"),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a", "Error"),
        ("const d = {toString() { for (;;) {} }}; event.setTxn_id(d)", "steps"),
        ("return [{toJSON() { for (;;) {} }}]", "steps"),
        ("throw {get name() { for (;;) {} }, toString() { for (;;) {} }}", "steps"),
        (
            "const e = new Error(); Object.defineProperty(e, 'name', {get() { for (;;) {} }}); throw e",
            "steps",
        ),
        ("return (async () => { for (;;) {} })()", "steps"),
    ] {
        let trial = script(&format!(
            "function process(event) {{ if (event.getUser_id() === 'good') return; {hostile} }}"
        ));
        // The second time in a machine that was used, so that it is tried in a new one too.
        trial.event(&[("uid", "good")]);
        let failures = trial.failures(&[]);
        assert!(failures.len() == 1 && failures[0].contains(expected), "{hostile}: {failures:?}");
        trial.event(&[("uid", "good")]);
    }
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}

/// Ways to leave something behind for the next event, and what would be seen of it. Every event must see the same.
#[test]
fn nothing_goes_from_event_to_event() {
    for (leave, see) in [
        ("globalThis.left = 1", "typeof left"),
        ("left = 1", "typeof left"),
        ("this.left = 1", "typeof left"),
        ("(0, eval)('var left = 1')", "typeof left"),
        ("(0, eval)('function left() {}')", "typeof left"),
        ("Object.defineProperty(globalThis, 'left', {value: 1})", "typeof left"),
        ("globalThis[Symbol.for('left')] = 1", "globalThis[Symbol.for('left')]"),
        ("Object.setPrototypeOf(globalThis, {left: 1})", "typeof left"),
        (
            "Object.preventExtensions(globalThis); Object.setPrototypeOf(globalThis, {left: 1})",
            "typeof left",
        ),
        ("Object.freeze(globalThis)", "Object.isFrozen(globalThis)"),
        ("top += 1", "top"),
        ("list.push(1)", "list.length"),
        ("f.left = 1", "f.left"),
        ("process.left = 1", "process.left"),
        ("process = null", "typeof process"),
        ("Object.prototype.left = 1", "({}).left"),
        ("Array.prototype.left = 1", "[].left"),
        ("Array.prototype.map = null", "typeof [].map"),
        ("String.prototype.trim = () => 'x'", "' '.trim()"),
        ("Object.prototype.toString = () => 'x'", "'' + {}"),
        ("Object.prototype.__proto__ = null; ({}).__proto__.left = 1", "({}).left"),
        ("Object.getPrototypeOf(function* () {}).left = 1", "(function* () {}).left"),
        (
            "Object.getPrototypeOf(async () => {}).constructor.left = 1",
            "(async () => {}).constructor.left",
        ),
        ("Object.getPrototypeOf([][Symbol.iterator]()).next = null", "[...[1]].length"),
        ("Object.getPrototypeOf(event).getUser_id = () => 'left'", "event.getUser_id()"),
        ("event.getUser_id.left = 1", "event.getUser_id.left"),
        ("event.left = 1", "event.left"),
        ("JSON.stringify = () => '[]'", "typeof JSON.stringify([])"),
        ("Math.random.left = 1", "Math.random.left"),
        ("Date.now = () => 5", "Date.now()"),
        ("Date.prototype.left = 1", "new Date().left"),
        (
            "Error.prepareStackTrace = () => 'left'",
            "Error.prepareStackTrace + new Error().stack.length",
        ),
        ("Error.stackTraceLimit = 0", "Error.stackTraceLimit"),
        ("RegExp.prototype.exec = null", "/a/.test('a')"),
        ("/(a)/.exec('a')", "RegExp.$1 + RegExp.lastMatch"),
        ("regex.exec('aa')", "regex.lastIndex"),
        ("Promise.resolve().then(() => { globalThis.left = 1 })", "typeof left"),
        ("(async () => { await null; globalThis.left = 1 })()", "typeof left"),
        ("import('left').catch(() => { globalThis.left = 1 })", "typeof left"),
        ("Symbol.left = 1", "Symbol.left"),
        ("arguments.callee.caller", "typeof left"),
        ("tag`x`.left = 1", "tag`x`.left"),
        ("cache.set(list, 1)", "cache.has(list)"),
        ("Function.prototype.call = null", "typeof tag.call"),
        ("new Function('return this')().left = 1", "typeof left"),
    ] {
        let trial = script(&format!(
            "'a'; let top = 0; const list = []; function f() {{}} const tag = (it) => it; const regex = /a/g; const cache = new WeakMap();
             function process(event) {{
               let seen; try {{ seen = String({see}) }} catch (e) {{ seen = 'e' + e }}
               try {{ {leave} }} catch (e) {{}}
               return [{{schema: '{U}', data: {{it: seen}}}}];
             }}"
        ));
        let first = only_value(&trial, &[]);
        for _ in 0..3 {
            assert_eq!(only_value(&trial, &[]), first, "{leave}");
        }
        // Nor to another thread, which starts anew.
        let elsewhere =
            std::thread::scope(|scope| scope.spawn(|| only_value(&trial, &[])).join().unwrap());
        assert_eq!(elsewhere, first, "{leave}");
    }
}

/// Marks all objects that a script can reach in any way, and looks for marks.
#[test]
fn no_object_that_a_script_can_reach_outlives_the_event() {
    let trial = script(&format!(
        "function process(event, params, headers) {{
           const seen = new Set(); let marks = 0, count = 0;
           const left = [globalThis, event, params, headers, process, arguments, arguments.callee, event.getUser_id,
             function* () {{}}, async function () {{}}, async function* () {{}}, (function* () {{}})(), (async function* () {{}})(),
             [].values(), [].entries(), new Map().keys(), new Set().values(), ''[Symbol.iterator](), 'a'.matchAll(/a/g), /a/g,
             new Proxy({{}}, {{}}), Promise.resolve(), new Error(), new Date(), Symbol(), 1n, new Uint8Array(1), new DataView(new ArrayBuffer(1)),
             [].values().map((it) => it), Iterator.from({{next() {{}}}}), (() => {{ 'use strict'; return arguments }})()];
           try {{ null.x }} catch (e) {{ left.push(e) }}
           try {{ event.setTxn_id('x') }} catch (e) {{ left.push(e) }}
           try {{ eval('(') }} catch (e) {{ left.push(e) }}
           while (left.length > 0) {{
             const object = left.pop();
             if (object === null || object === undefined || seen.has(object)) continue;
             if (typeof object === 'object' || typeof object === 'function') {{
               count++;
               if (Object.getOwnPropertyDescriptor(object, 'mark')) marks++;
             }}
             seen.add(object);
             left.push(Object.getPrototypeOf(object));
             for (const key of Reflect.ownKeys(Object(object))) {{
               const it = Object.getOwnPropertyDescriptor(object, key);
               left.push(it.value, it.get, it.set);
             }}
           }}
           for (const object of seen) {{ try {{ Object.defineProperty(object, 'mark', {{value: 1}}) }} catch (e) {{}} }}
           return [{{schema: '{U}', data: {{it: [marks, count > 900]}}}}];
         }}"
    ));
    for _ in 0..3 {
        assert_eq!(only_value(&trial, &[]), json!([0, true]));
    }
}

/// What scripts of many years assign must still work where the objects behind it are frozen.
#[test]
fn ordinary_scripts_find_an_ordinary_language() {
    for (program, expected) in [
        (
            "function F() {} F.prototype.toString = function () { return 'f' }; return '' + new F()",
            "f",
        ),
        (
            "const o = {}; o.toString = () => 'o'; o.constructor = 1; return '' + o + o.constructor",
            "o1",
        ),
        ("const e = new Error('a'); e.message = 'b'; e.name = 'N'; return '' + e", "N: b"),
        (
            "class E extends Error { constructor(m) { super(m); this.name = 'E' } } try { throw new E('x') } catch (e) { return '' + e + (e instanceof E) }",
            "E: xtrue",
        ),
        (
            "function B() {} function C() {} C.prototype = Object.create(B.prototype); C.prototype.constructor = C; return new C().constructor === C && new C() instanceof B",
            "true",
        ),
        ("let s = ''; for (i = 0; i < 3; i++) s += i; return s", "012"),
        (
            "var o = {a: 1, hasOwnProperty: 2}; let s = ''; for (var k in o) s += k; return s",
            "ahasOwnProperty",
        ),
        ("return [3, 1, 2].sort().map((x) => x * 2).filter((x) => x > 2).join()", "4,6"),
        ("return JSON.stringify({a: [1, {b: null}]})", "{\"a\":[1,{\"b\":null}]}"),
        ("return 'a-b'.replace(/(\\w)-(\\w)/, '$2-$1') + encodeURIComponent('ž')", "b-a%C5%BE"),
        (
            "const {a, ...rest} = {a: 1, b: 2}; return Object.keys(rest) + [...new Set([1, 1])].length",
            "b1",
        ),
        ("return eval('1 + 1')", "2"),
        ("function g() { return this === globalThis } return g()", "true"),
    ] {
        let trial = script(&format!(
            "function process(event) {{ const run = function () {{ {program} }}; event.setUser_id(String(run())) }}"
        ));
        assert_eq!(trial.event(&[]).user_id.as_deref(), Some(expected), "{program}");
    }
}
