//! Statements of PostgreSQL's clients in the form that the query engine plans.
//!
//! Called by the engine before it plans. Drivers and tools ask the system catalogues in ways that DataFusion does not
//! plan (`OPERATOR(pg_catalog.~)`, `'x'::regclass`, correlated subqueries in a list); rules of `datafusion-pg-catalog`
//! turn them into others. Some of those rules give up a part of the answer, a default of a column for example, so that
//! they are used for statements over the catalogues alone: a statement over events is never changed in what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, ArrayElemTypeDef, BinaryOperator, CastKind, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, LimitClause, ObjectName,
    SelectItem, SetExpr, TimezoneInfo, Value, Visit, Visitor, visit_expressions_mut,
    visit_relations,
};
use datafusion_pg_catalog::pg_catalog::PG_CATALOG_TABLES;
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, RewritePgCatalogOperator,
    RewriteRegCastToSubquery, SqlStatementRewriteRule, StripCallableQualifier,
};

/// The rules.
#[derive(Debug)]
pub(crate) struct Adapter {
    /// For statements over the system catalogues.
    catalogues: PostgresCompatibilityParser,
    /// For all statements: these change the form only.
    all: Vec<Box<dyn SqlStatementRewriteRule>>,
    /// The names of our own tables.
    ours: BTreeSet<String>,
}

impl Adapter {
    pub(crate) fn new(ours: BTreeSet<String>) -> Adapter {
        Adapter {
            catalogues: PostgresCompatibilityParser::new(),
            all: vec![
                Box::new(StripCallableQualifier),
                Box::new(CurrentUserVariableToSessionUserFunctionCall),
                Box::new(RewritePgCatalogOperator),
                Box::new(RewriteRegCastToSubquery::new()),
            ],
            ours,
        }
    }

    /// Changes a statement that was let through; `text` is what it was parsed from, `declared` are the types that the
    /// client gives its parameters.
    pub(crate) fn adapt(
        &self,
        statement: &mut Statement,
        text: &str,
        declared: &[Option<DataType>],
    ) {
        let arrays = told_types(statement).into_iter().filter(|(_, of)| is_array(of));
        let mut declared = declared.to_vec();
        for (at, array) in arrays {
            declared.resize(declared.len().max(at + 1), None);
            declared[at].get_or_insert(array);
        }
        let Statement::Statement(inner) = statement else { return };
        let is_about_catalogues = self.is_about_catalogues(inner);
        let named = is_about_catalogues.then(|| name_functions(inner)).flatten();
        if is_about_catalogues
            && let Ok(mut adapted) = self.catalogues.parse(named.as_deref().unwrap_or(text))
            && adapted.len() == 1
            && let Some(mut adapted) = adapted.pop()
        {
            leave_out_what_is_not(&mut adapted);
            **inner = adapted;
        } else {
            for rule in &self.all {
                **inner = rule.rewrite(inner.as_ref().clone());
            }
        }
        read_json_as_text(inner);
        name_fields(inner);
        count_in_microseconds(inner);
        declare(inner, &declared);
    }

    /// True when a statement reads a system catalogue and no table of ours.
    fn is_about_catalogues(&self, statement: &ast::Statement) -> bool {
        let (mut catalogues, mut ours) = (false, false);
        let _: ControlFlow<()> = visit_relations(statement, |relation| {
            match parts(relation) {
                (Some(schema), _) if ["pg_catalog", "information_schema"].contains(&&*schema) => {
                    catalogues = true;
                }
                (Some(_), _) => ours = true,
                (None, name) if self.ours.contains(&name) => ours = true,
                (None, name) => catalogues |= PG_CATALOG_TABLES.contains(&name.as_str()),
            }
            ControlFlow::Continue(())
        });
        catalogues && !ours
    }
}

/// Schema and name of a relation in lower case.
fn parts(relation: &ObjectName) -> (Option<String>, String) {
    let part = |part: &ast::ObjectNamePart| {
        part.as_ident().map(|name| name.value.to_lowercase()).unwrap_or_default()
    };
    let mut parts = relation.0.iter().rev().map(part);
    let name = parts.next().unwrap_or_default();
    (parts.next(), name)
}

/// The text of a statement in which functions are told by their names, as the catalogues have them: `typinput =
/// 'array_in'::regproc`. `None` where none is told.
fn name_functions(statement: &ast::Statement) -> Option<String> {
    let mut named = statement.clone();
    let mut is_changed = false;
    let _: ControlFlow<()> = visit_expressions_mut(&mut named, |expr| {
        if let Expr::Cast { expr: inner, data_type, .. } = expr
            && ["regproc", "pg_catalog.regproc"].contains(&&*data_type.to_string().to_lowercase())
            && let Expr::Value(value) = &mut **inner
            && let Value::SingleQuotedString(name) = &mut value.value
        {
            *name = name.trim_start_matches("pg_catalog.").to_owned();
            *expr = (**inner).clone();
            is_changed = true;
        }
        ControlFlow::Continue(())
    });
    is_changed.then(|| named.to_string())
}

/// There are no comments on tables and columns, and no keys; what a client writes to name their objects is not always
/// planned.
fn leave_out_what_is_not(statement: &mut ast::Statement) {
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::Function(function) = expr
            && ["col_description", "obj_description", "shobj_description"]
                .contains(&parts(&function.name).1.as_str())
        {
            *expr = null(ast::DataType::Text);
        }
        // The parts of a key: `information_schema._pg_expandarray(i.indkey)`, then `(result.keys).n`.
        if let Expr::CompoundFieldAccess { access_chain, .. } = expr
            && let [AccessExpr::Dot(Expr::Identifier(field))] = &access_chain[..]
            && ["n", "x"].contains(&field.value.as_str())
        {
            *expr = null(ast::DataType::Integer(None));
        }
        if let Expr::Subquery(query) = expr {
            say_that_it_is_one(query);
        }
        if let Expr::Function(function) = expr {
            let name = parts(&function.name).1;
            let is_subquery = matches!(function.args, FunctionArguments::Subquery(_));
            let lists = ["acl, ", "reloptions", "setconfig"];
            let args = function.args.to_string();
            if name == "array_to_string" && lists.iter().any(|list| args.contains(list)) {
                // Privileges, storage options, settings of a role.
                *expr = null(ast::DataType::Text);
            } else if name == "_pg_expandarray" {
                *expr = null(ast::DataType::Integer(None));
            } else if name == "array" && is_subquery {
                // The roles of a role, the columns of a policy.
                let text = Box::new(ast::DataType::Text);
                *expr = null(ast::DataType::Array(ArrayElemTypeDef::SquareBracket(text, None)));
            }
        }
        ControlFlow::Continue(())
    });
}

/// A condition that is asked of one row of another catalogue, `(SELECT c.relkind = 'c' FROM … WHERE c.oid = …)`: the
/// engine wants to be told that there is at most one.
fn say_that_it_is_one(query: &mut ast::Query) {
    let SetExpr::Select(select) = &mut *query.body else { return };
    if let [SelectItem::UnnamedExpr(condition)] = &mut select.projection[..]
        && let Expr::BinaryOp { op: BinaryOperator::Eq | BinaryOperator::NotEq, .. } = condition
    {
        let argument = FunctionArg::Unnamed(FunctionArgExpr::Expr(condition.clone()));
        let arguments = FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![argument],
            clauses: Vec::new(),
        };
        *condition = Expr::Function(Function {
            name: ObjectName::from(vec![Ident::new("bool_or")]),
            uses_odbc_syntax: false,
            parameters: FunctionArguments::None,
            args: FunctionArguments::List(arguments),
            filter: None,
            null_treatment: None,
            over: None,
            within_group: Vec::new(),
        });
    }
}

/// JSON is text here, and the operators of JSON take text: a cast to `json` or `jsonb` is one to text.
fn read_json_as_text(statement: &mut ast::Statement) {
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::Cast { data_type, .. } = expr
            && matches!(data_type, ast::DataType::JSON | ast::DataType::JSONB)
        {
            *data_type = ast::DataType::Text;
        }
        ControlFlow::Continue(())
    });
}

/// `e.cart['total']` names the column `cart` of `e`: the names before the first bracket are one name, unless the first
/// stands in brackets of its own.
fn qualify(root: &mut Expr, chain: &mut Vec<AccessExpr>) {
    let Expr::Identifier(first) = &*root else { return };
    let is_name = |access: &&AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
    let names = chain.iter().take_while(is_name).count();
    if names == 0 {
        return;
    }
    let mut parts = vec![first.clone()];
    parts.extend(chain.drain(..names).filter_map(|access| match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
        _ => None,
    }));
    *root = Expr::CompoundIdentifier(parts);
}

/// The field of a record in PostgreSQL's form, `(cart).total`: the engine knows `cart['total']`.
fn name_fields(statement: &mut ast::Statement) {
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            qualify(root, access_chain);
            for access in access_chain {
                if let AccessExpr::Dot(Expr::Identifier(field)) = access {
                    let name = match field.quote_style {
                        Some(_) => field.value.clone(),
                        None => field.value.to_lowercase(),
                    };
                    let index = Expr::value(Value::SingleQuotedString(name));
                    *access = AccessExpr::Subscript(ast::Subscript::Index { index });
                }
            }
        }
        ControlFlow::Continue(())
    });
}

/// A timestamp without a precision has microseconds in PostgreSQL; the engine would take nanoseconds, which end in 2262.
fn count_in_microseconds(statement: &mut ast::Statement) {
    let precise = |of: &mut ast::DataType| {
        if let ast::DataType::Timestamp(precision @ None, _) = of {
            *precision = Some(6);
        }
    };
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        match expr {
            Expr::Cast { data_type, .. } => precise(data_type),
            Expr::TypedString(typed) => precise(&mut typed.data_type),
            _ => {}
        }
        ControlFlow::Continue(())
    });
}

fn null(data_type: ast::DataType) -> Expr {
    let expr = Box::new(Expr::Value(Value::Null.into()));
    Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None }
}

/// The types of parameters that the text of a statement says, by their places: `$1::bigint`, `LIMIT $2`.
pub(crate) fn told_types(statement: &Statement) -> BTreeMap<usize, DataType> {
    let mut told = Told(BTreeMap::new());
    if let Statement::Statement(statement) = statement {
        let _: ControlFlow<()> = statement.visit(&mut told);
    }
    told.0
}

struct Told(BTreeMap<usize, DataType>);

impl Told {
    fn tell(&mut self, parameter: &Expr, of: Option<DataType>) {
        if let (Some(at), Some(of)) = (place_of(parameter), of) {
            self.0.entry(at).or_insert(of);
        }
    }
}

impl Visitor for Told {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        if let Some(LimitClause::LimitOffset { limit, offset, .. }) = &query.limit_clause {
            limit.iter().for_each(|limit| self.tell(limit, Some(DataType::Int64)));
            offset.iter().for_each(|offset| self.tell(&offset.value, Some(DataType::Int64)));
        }
        let fetched = query.fetch.as_ref().and_then(|fetch| fetch.quantity.as_ref());
        fetched.into_iter().for_each(|quantity| self.tell(quantity, Some(DataType::Int64)));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr, data_type, .. } => self.tell(expr, arrow_type(data_type)),
            // Of texts, unless the client says otherwise: functions over arrays want to know.
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                self.tell(right, Some(DataType::new_list(DataType::Utf8, true)));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// The place of a parameter, from 0.
fn place_of(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

fn is_array(of: &DataType) -> bool {
    matches!(of, DataType::List(_))
}

fn arrow_type(of: &ast::DataType) -> Option<DataType> {
    let timestamp = |zone: Option<Arc<str>>| DataType::Timestamp(TimeUnit::Microsecond, zone);
    Some(match of {
        ast::DataType::Boolean | ast::DataType::Bool => DataType::Boolean,
        ast::DataType::SmallInt(_) | ast::DataType::Int2(_) => DataType::Int16,
        ast::DataType::Int(_) | ast::DataType::Integer(_) | ast::DataType::Int4(_) => {
            DataType::Int32
        }
        ast::DataType::BigInt(_) | ast::DataType::Int8(_) => DataType::Int64,
        ast::DataType::Real | ast::DataType::Float4 => DataType::Float32,
        ast::DataType::DoublePrecision | ast::DataType::Float8 => DataType::Float64,
        ast::DataType::Text | ast::DataType::Varchar(_) | ast::DataType::CharacterVarying(_) => {
            DataType::Utf8
        }
        ast::DataType::Bytea => DataType::Binary,
        ast::DataType::Date => DataType::Date32,
        ast::DataType::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            timestamp(None)
        }
        ast::DataType::Timestamp(..) => timestamp(Some("+00:00".into())),
        ast::DataType::Numeric(_) | ast::DataType::Decimal(_) => DataType::Decimal128(38, 10),
        ast::DataType::Array(ArrayElemTypeDef::SquareBracket(item, _)) => {
            DataType::new_list(arrow_type(item)?, true)
        }
        _ => return None,
    })
}

/// Gives parameters the types that the client declared, so that a result depends on them as in PostgreSQL.
fn declare(statement: &mut ast::Statement, declared: &[Option<DataType>]) {
    if declared.iter().all(Option::is_none) {
        return;
    }
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let Some(Some(of)) = place_of(expr).and_then(|at| declared.get(at))
            && let Some(data_type) = sql_type(of)
        {
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(expr.clone()),
                data_type,
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    });
}

/// The type as SQL writes it. A text takes the type of its place, as an untyped literal does, and a numeric its own
/// digits; so neither is declared.
fn sql_type(of: &DataType) -> Option<ast::DataType> {
    Some(match of {
        DataType::Boolean => ast::DataType::Boolean,
        DataType::Int16 => ast::DataType::SmallInt(None),
        DataType::Int32 => ast::DataType::Integer(None),
        DataType::Int64 => ast::DataType::BigInt(None),
        DataType::Float32 => ast::DataType::Real,
        DataType::Float64 => ast::DataType::DoublePrecision,
        DataType::Date32 => ast::DataType::Date,
        DataType::Timestamp(_, None) => ast::DataType::Timestamp(Some(6), TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => {
            ast::DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone)
        }
        DataType::Binary => ast::DataType::Bytea,
        DataType::List(item) => {
            let item = match item.data_type() {
                DataType::Utf8 => ast::DataType::Text,
                item => sql_type(item)?,
            };
            ast::DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(item), None))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(sql: &str, declared: &[Option<DataType>]) -> String {
        let adapter = Adapter::new(BTreeSet::from(["events".to_owned()]));
        let mut statement = crate::statement::parse(sql).unwrap();
        adapter.adapt(&mut statement, sql, declared);
        statement.to_string()
    }

    #[test]
    fn a_statement_over_events_keeps_its_meaning() {
        for sql in [
            "SELECT (SELECT count(*) FROM bad_rows AS b WHERE b._offset = e._offset) FROM events AS e",
            "SELECT (SELECT max(c.relname) FROM pg_catalog.pg_class AS c WHERE c.relname = e.app_id) FROM events AS e",
            "SELECT e.app_id, e.* FROM atomic.events AS e ORDER BY app_id",
        ] {
            assert_eq!(adapted(sql, &[]), sql);
        }
    }

    #[test]
    fn a_qualified_function_and_operator_lose_their_schema() {
        assert_eq!(
            adapted(
                "SELECT pg_catalog.version() FROM events WHERE app_id OPERATOR(pg_catalog.~) 'x'",
                &[]
            ),
            "SELECT version() FROM events WHERE app_id ~ 'x'"
        );
    }

    #[test]
    fn a_condition_on_one_row_of_a_catalogue_says_that_it_is_one() {
        let sql = "SELECT t.oid FROM pg_catalog.pg_type AS t \
                   WHERE (SELECT c.relkind = 'c' FROM pg_catalog.pg_class AS c WHERE c.oid = t.typrelid)";
        let adapted = adapted(sql, &[]);
        assert!(adapted.contains("SELECT bool_or(c.relkind = 'c')"), "{adapted}");
    }

    #[test]
    fn a_function_is_told_by_its_name() {
        let sql = "SELECT t.typinput = 'pg_catalog.array_in'::regproc FROM pg_catalog.pg_type AS t";
        let adapted = adapted(sql, &[]);
        assert!(adapted.contains("t.typinput = 'array_in'"), "{adapted}");
    }

    #[test]
    fn a_declared_parameter_is_cast() {
        let declared = [Some(DataType::Int32), Some(DataType::Utf8), None];
        assert_eq!(
            adapted("SELECT $1, $2, $3 + $1 FROM events", &declared),
            "SELECT CAST($1 AS INTEGER), $2, $3 + CAST($1 AS INTEGER) FROM events"
        );
    }
}
