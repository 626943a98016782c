//! The targets, in the order of the flow: one file for what is read by one piece of code.

pub(crate) mod hocon;

pub(crate) mod http;

pub(crate) mod payload;

pub(crate) mod segment;

pub(crate) mod records;

pub(crate) mod keys;

pub(crate) mod recipe;

pub(crate) mod tsv;

pub(crate) mod entry;

pub(crate) mod master;

pub(crate) mod manifest;
