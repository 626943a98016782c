// What a script finds around it. Evaluated once in each machine, before any script; gives `load`, `defines`, `run` and `clean`.
//
// Two rules make a machine that has seen many events equal to a new one: nothing that outlives an event can be changed
// (all that can be reached from the global object is frozen, and what a script adds to the global object goes when the
// event ends), and nothing tells one moment or one place from another (no clock, no time zone, no chance, no view of
// the garbage collector). A script's own variables are made anew for each event: its text is the body of a function
// that is called each time.
(function (native, columns) {
  "use strict";
  const G = globalThis;
  const { create, defineProperty, freeze, getOwnPropertyDescriptor, getPrototypeOf } = Object;
  const { construct, deleteProperty, isExtensible, ownKeys, setPrototypeOf } = Reflect;
  const { parse, stringify } = JSON;

  // ---- No clock, no time zone, no chance ----

  const Real = Date;
  const dates = Real.prototype;
  const { getTime, getUTCDate, getUTCDay, getUTCFullYear, getUTCHours, getUTCMinutes, getUTCMonth, getUTCSeconds } = dates;
  const { setUTCFullYear } = dates;
  const { UTC, parse: parseReal } = Real;

  const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const pad = (number, width = 2) => String(number).padStart(width, "0");

  // A text without a zone means UTC.
  const ZONED = /:\d\d.*(?:z|[+-]\d{1,2}:?\d\d|gmt|utc?|[ecmp][sd]t)\s*(?:\(.*\)\s*)?$/i;
  const parseText = (text) => {
    if (ZONED.test(text)) return parseReal(text);
    for (const zoned of [text + "Z", text + " UTC"]) {
      const at = parseReal(zoned);
      if (at === at) return at;
    }
    return parseReal(text);
  };

  const isDate = (value) => {
    try {
      getTime.call(value);
      return true;
    } catch {
      return false;
    }
  };

  const toTime = (args) => {
    if (args.length === 0) return native.now();
    if (args.length > 1) return UTC(...args);
    let value = args[0];
    if (isDate(value)) return getTime.call(value);
    if (typeof value === "object" && value !== null) {
      // As a date makes a primitive of an object.
      const plain = value.valueOf();
      value = typeof plain === "object" ? String(value) : plain;
    }
    return typeof value === "string" ? parseText(value) : Number(value);
  };

  const Fixed = function Date(...args) {
    if (new.target === undefined) return construct(Real, [native.now()]).toString();
    return construct(Real, [toTime(args)], new.target);
  };
  defineProperty(Fixed, "length", { value: 7 });
  defineProperty(Fixed, "prototype", { value: dates, writable: false });

  const day = (date) => `${DAYS[getUTCDay.call(date)]} ${MONTHS[getUTCMonth.call(date)]} ${pad(getUTCDate.call(date))} ${pad(getUTCFullYear.call(date), 4)}`;
  const clock = (date) => `${pad(getUTCHours.call(date))}:${pad(getUTCMinutes.call(date))}:${pad(getUTCSeconds.call(date))}`;
  const localDay = (date) => `${pad(getUTCMonth.call(date) + 1)}/${pad(getUTCDate.call(date))}/${pad(getUTCFullYear.call(date), 4)}`;
  const localClock = (date) => {
    const hours = getUTCHours.call(date);
    return `${pad(hours % 12 === 0 ? 12 : hours % 12)}:${pad(getUTCMinutes.call(date))}:${pad(getUTCSeconds.call(date))} ${hours < 12 ? "AM" : "PM"}`;
  };
  const valid = (date, text) => (getTime.call(date) === getTime.call(date) ? text(date) : "Invalid Date");

  const replace = (target, methods) => {
    for (const key of ownKeys(methods)) {
      const value = methods[key];
      defineProperty(target, key, { value, writable: true, enumerable: false, configurable: true });
    }
  };
  replace(Fixed, {
    now() { return native.now(); },
    parse(text) { return parseText(String(text)); },
    UTC,
  });
  for (const part of ["FullYear", "Month", "Date", "Day", "Hours", "Minutes", "Seconds", "Milliseconds"]) {
    replace(dates, { ["get" + part]: dates["getUTC" + part] });
    if (part !== "Day") replace(dates, { ["set" + part]: dates["setUTC" + part] });
  }
  replace(dates, {
    constructor: Fixed,
    getTimezoneOffset() { return getTime.call(this) * 0; },
    getYear() { return getUTCFullYear.call(this) - 1900; },
    setYear(year) {
      const number = Number(year);
      return setUTCFullYear.call(this, number >= 0 && number <= 99 ? 1900 + number : number);
    },
    toString() { return valid(this, (it) => `${day(it)} ${clock(it)} GMT+0000 (UTC)`); },
    toDateString() { return valid(this, day); },
    toTimeString() { return valid(this, (it) => `${clock(it)} GMT+0000 (UTC)`); },
    toLocaleString() { return valid(this, (it) => `${localDay(it)}, ${localClock(it)}`); },
    toLocaleDateString() { return valid(this, localDay); },
    toLocaleTimeString() { return valid(this, localClock); },
  });
  replace(G, { Date: Fixed });
  replace(Math, { random() { return native.random(); } });

  // Shared memory and waiting, and what sees the garbage collector or other clocks.
  for (const name of ["Atomics", "SharedArrayBuffer", "WeakRef", "FinalizationRegistry", "performance", "gc", "navigator", "queueMicrotask"]) {
    deleteProperty(G, name);
  }
  // Accessors that keep what they are given somewhere else.
  for (const name of ["prepareStackTrace", "stackTraceLimit", "captureStackTrace"]) {
    deleteProperty(Error, name);
  }

  // ---- Nothing that outlives an event can be changed ----

  const strictArguments = (function () { return arguments; })();
  const seen = new Set();
  const left = [
    G,
    function* () {}, async function () {}, async function* () {},
    (function* () {})(), (async function* () {})(),
    [].values(), new Map().entries(), new Set().values(), ""[Symbol.iterator](), "".matchAll(/a/g),
    getOwnPropertyDescriptor(strictArguments, "callee").get,
  ];
  if (typeof Iterator === "function") {
    left.push([].values().map((it) => it), Iterator.from({ next() {} }));
  }
  const reach = () => {
    while (left.length > 0) {
      const object = left.pop();
      if ((typeof object !== "object" && typeof object !== "function") || object === null || seen.has(object)) continue;
      seen.add(object);
      left.push(getPrototypeOf(object));
      for (const key of ownKeys(object)) {
        const described = getOwnPropertyDescriptor(object, key);
        left.push(described.value, described.get, described.set);
      }
    }
  };
  reach();

  // An object that inherits a frozen property could not be given one of its own by assignment. For the names that
  // scripts do assign, an accessor does what the assignment means.
  const ASSIGNED = ["constructor", "hasOwnProperty", "message", "name", "toJSON", "toLocaleString", "toString", "valueOf"];
  for (const object of [...seen]) {
    if (object === G || getOwnPropertyDescriptor(object, "constructor") === undefined) continue;
    for (const key of object === Object.prototype ? ownKeys(object) : ASSIGNED) {
      const described = getOwnPropertyDescriptor(object, key);
      if (described === undefined || !described.writable || !described.configurable) continue;
      const { value, enumerable } = described;
      const accessors = {
        get() { return value; },
        set(other) {
          if (this === object) throw new TypeError("this object cannot be changed");
          defineProperty(this, key, { value: other, writable: true, enumerable: true, configurable: true });
        },
      };
      const { get, set } = accessors;
      defineProperty(object, key, { get, set, enumerable, configurable: false });
      left.push(get, set);
    }
  }
  reach();

  for (const object of seen) {
    if (object !== G) freeze(object);
  }
  const known = create(null);
  for (const key of ownKeys(G)) {
    known[key] = true;
    const described = getOwnPropertyDescriptor(G, key);
    if (described.configurable && "value" in described) {
      defineProperty(G, key, { writable: false, configurable: false });
    }
  }
  freeze(known);
  const count = ownKeys(G).length;

  // Takes away what a script has left on the global object; whether that could be done.
  const clean = () => {
    if (!isExtensible(G)) return false;
    if (getPrototypeOf(G) !== Object.prototype && !setPrototypeOf(G, Object.prototype)) return false;
    const keys = ownKeys(G);
    if (keys.length === count) return true;
    for (const key of keys) {
      if (known[key] !== true && !deleteProperty(G, key)) return false;
    }
    return ownKeys(G).length === count;
  };

  // ---- The event ----

  const event = create(null);
  setPrototypeOf(event, Object.prototype);
  const methods = {
    getUnstruct_event: () => native.json(0),
    getContexts: () => native.json(1),
    getDerived_contexts: () => native.json(2),
    setUnstruct_event: (text) => native.put(0, text == null ? null : String(text)),
    setContexts: (text) => native.put(1, text == null ? null : String(text)),
    setDerived_contexts: () => undefined,
    eraseDerived_contexts: () => native.erase(),
    drop: () => {
      native.drop();
      throw new Error("the event is dropped");
    },
  };
  for (let at = 0; at < columns.length; at++) {
    const name = columns[at][0].toUpperCase() + columns[at].slice(1);
    if ("get" + name in methods) continue;
    methods["get" + name] = () => native.get(at);
    methods["set" + name] = (value) => native.set(at, value == null ? null : typeof value === "object" ? String(value) : value);
  }
  for (const key of ownKeys(methods)) {
    const described = { value: freeze(methods[key]), writable: false, enumerable: false, configurable: false };
    defineProperty(event, key, described);
  }
  freeze(event);

  const load = (source) => {
    const factory = new Function(source + "\n;return typeof process === 'function' ? process : undefined;");
    freeze(factory.prototype);
    return freeze(factory);
  };

  const defines = (factory) => factory() !== undefined;

  // A text, or null for a script that returns nothing.
  const run = (factory, config, headers) => {
    const process = factory();
    const result = process(create(event), config == null ? {} : parse(config), headers);
    const text = result === undefined || result === null ? null : stringify(result);
    if (!clean()) native.soil();
    return text === undefined ? "" : text;
  };

  return { load, defines, run, clean };
})
