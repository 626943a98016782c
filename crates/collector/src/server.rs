//! Starts and stops the collector: listener, threads, and the drain at the end.
use crate::{Config, Error};
use model::time::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use crate::counters::Counters;
