//! The world outside, as far as enrichments ask it: HTTP APIs and databases.

use enrich::look_up::{Answer, Request};

use crate::look_up_http::{AllowedHost, LookUpHttp};
use crate::look_up_sql::LookUpSql;
use crate::look_ups::LookUp;

/// Asks whoever a request is for.
#[derive(Debug)]
pub struct Outside {
    http: LookUpHttp,
    sql: LookUpSql,
}

impl Outside {
    /// `allowed` are the hosts of HTTP APIs that may lie inside the machine or its network.
    pub fn new(allowed: Vec<AllowedHost>) -> Outside {
        Outside { http: LookUpHttp::new(allowed), sql: LookUpSql::default() }
    }
}

impl LookUp for Outside {
    fn look_up(&self, request: &Request) -> Answer {
        match request {
            Request::Http(request) => self.http.look_up(request),
            Request::Sql(request) => self.sql.look_up(request),
        }
    }
}
