//! Which statements are answered: one statement that only reads. The check is a list of what is allowed, so that a
//! statement that nobody thought of is refused.
//!
//! There are no file paths, external tables, COPY or SET here. The plan is checked once more after it is made, because
//! a query can carry a statement inside.

use std::ops::ControlFlow;

use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, SetExpr, visit_relations};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::Error;

/// The longest text of a statement.
pub const BYTES_MAX: usize = 64 << 10;

/// How deep expressions may nest.
const DEPTH_MAX: usize = 64;

/// Operators and tables of one statement. `1+1+…` makes a tree as deep as it has terms, and a list of tables likewise;
/// planning walks them by recursion, and an overflow of the stack would end the process.
const OPERATORS_MAX: usize = 1000;
const TABLES_MAX: usize = 24;

/// Levels of function calls in function calls, where a subquery counts as two. The planner of DataFusion 55 takes twice
/// as long for each level, and cannot be cancelled meanwhile.
const LEVELS_MAX: usize = 16;

/// Parses the text and lets one reading statement through.
///
/// # Errors
/// Those of [`parse_all`] and [`check`]; [`Error::Syntax`] also for no statement or several.
pub fn parse(sql: &str) -> Result<Statement, Error> {
    let mut statements = parse_all(sql)?;
    let Some(statement) = statements.pop() else {
        return Err(Error::Syntax("there is no statement".to_owned()));
    };
    if !statements.is_empty() {
        let count = statements.len() + 1;
        return Err(Error::Syntax(format!(
            "there are {count} statements; one at a time is answered"
        )));
    }
    check(&statement)?;
    Ok(statement)
}

/// Parses the text into its statements, none of which is let through yet: each goes through [`check`] before it is
/// planned.
///
/// # Errors
/// [`Error::StatementTooLong`], [`Error::StatementTooLarge`], [`Error::Syntax`].
pub fn parse_all(sql: &str) -> Result<Vec<Statement>, Error> {
    if sql.len() > BYTES_MAX {
        return Err(Error::StatementTooLong(BYTES_MAX));
    }
    let tokens = tokens(sql)?;
    check_size("operators", operators(&tokens), OPERATORS_MAX)?;
    check_size("levels of calls and subqueries", levels(&tokens), LEVELS_MAX)?;
    let mut parser = DFParserBuilder::new(sql)
        .with_dialect(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH_MAX)
        .build()?;
    Ok(parser.parse_statements()?.into())
}

/// Lets a statement through that only reads.
///
/// # Errors
/// [`Error::ReadOnly`], [`Error::StatementTooLarge`].
pub fn check(statement: &Statement) -> Result<(), Error> {
    check_reading(statement)?;
    check_size("tables", tables(statement), TABLES_MAX)
}

fn check_size(what: &'static str, count: usize, max: usize) -> Result<(), Error> {
    if count > max { Err(Error::StatementTooLarge { what, count, max }) } else { Ok(()) }
}

/// The tokens without space and comments.
fn tokens(sql: &str) -> Result<Vec<Token>, Error> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize();
    let mut tokens = tokens.map_err(|error| Error::Syntax(error.to_string()))?;
    tokens.retain(|token| !matches!(token, Token::Whitespace(_)));
    Ok(tokens)
}

/// How deep calls and subqueries nest: a parenthesis after a word is one level, one that opens a query is two.
fn levels(tokens: &[Token]) -> usize {
    let (mut open, mut level, mut deepest) = (Vec::new(), 0, 0);
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::LParen => {
                let after_word = at > 0 && matches!(tokens[at - 1], Token::Word(_));
                let weight = match tokens.get(at + 1) {
                    Some(Token::Word(word))
                        if matches!(word.keyword, Keyword::SELECT | Keyword::WITH) =>
                    {
                        2
                    }
                    _ => usize::from(after_word),
                };
                open.push(weight);
                level += weight;
                deepest = deepest.max(level);
            }
            Token::RParen => level -= open.pop().unwrap_or(0),
            _ => {}
        }
    }
    deepest
}

/// Everything that can make the tree of an expression or a query deeper without a parenthesis.
fn operators(tokens: &[Token]) -> usize {
    let deepens = |token: &Token| match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::XOR
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::REGEXP
                | Keyword::RLIKE
                | Keyword::DIV
                | Keyword::OVERLAPS
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::NOTNULL
                | Keyword::MEMBER
                | Keyword::OPERATOR
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::MINUS
                | Keyword::INTERSECT
                | Keyword::JOIN
                | Keyword::EXPLAIN
        ),
        Token::Comma
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon
        | Token::EOF
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_) => false,
        _ => true,
    };
    tokens.iter().filter(|token| deepens(token)).count()
}

fn tables(statement: &Statement) -> usize {
    match statement {
        Statement::Statement(statement) => {
            let mut count = 0;
            let _: ControlFlow<()> = visit_relations(statement.as_ref(), |_| {
                count += 1;
                ControlFlow::Continue(())
            });
            count
        }
        Statement::Explain(explain) => tables(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => 0,
    }
}

/// The same rule for what the statement became.
///
/// # Errors
/// [`Error::ReadOnly`].
pub fn check_plan(plan: &LogicalPlan) -> Result<(), Error> {
    let options =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(plan).map_err(|error| match error.find_root().message() {
        message if message.is_empty() => Error::ReadOnly("this statement".to_owned()),
        message => Error::ReadOnly(message.into_owned()),
    })
}

fn check_reading(statement: &Statement) -> Result<(), Error> {
    match statement {
        Statement::Statement(statement) => check_sql(statement),
        Statement::Explain(explain) => check_reading(&explain.statement),
        Statement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE"),
        Statement::CopyTo(_) => refuse("COPY"),
        Statement::Reset(_) => refuse("RESET"),
    }
}

fn check_sql(statement: &ast::Statement) -> Result<(), Error> {
    match statement {
        ast::Statement::Query(query) => check_query(query),
        ast::Statement::Explain { statement, .. } => check_sql(statement),
        ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. }
        | ast::Statement::ShowVariable { .. } => Ok(()),
        other => {
            let text = other.to_string();
            refuse(text.split_whitespace().next().unwrap_or("this statement"))
        }
    }
}

/// `WITH x AS (INSERT …)` and `SELECT … INTO` are queries by their form only; [`check_plan`] sees deeper ones.
fn check_query(query: &ast::Query) -> Result<(), Error> {
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        check_query(&cte.query)?;
    }
    check_set(&query.body)
}

fn check_set(body: &SetExpr) -> Result<(), Error> {
    match body {
        SetExpr::Select(select) if select.into.is_some() => refuse("SELECT INTO"),
        SetExpr::Select(_) | SetExpr::Values(_) | SetExpr::Table(_) => Ok(()),
        SetExpr::Query(query) => check_query(query),
        SetExpr::SetOperation { left, right, .. } => {
            check_set(left)?;
            check_set(right)
        }
        SetExpr::Insert(_) => refuse("INSERT"),
        SetExpr::Update(_) => refuse("UPDATE"),
        SetExpr::Delete(_) => refuse("DELETE"),
        SetExpr::Merge(_) => refuse("MERGE"),
    }
}

fn refuse(what: &str) -> Result<(), Error> {
    Err(Error::ReadOnly(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(sql: &str) -> &'static str {
        parse(sql).map_or_else(|error| error.code(), |_| "ok")
    }

    #[test]
    fn reading_statements_are_let_through() {
        for sql in [
            "select 1",
            "SELECT * FROM atomic.events LIMIT 1;",
            "with a as (select 1) select * from a",
            "values (1), (2)",
            "select 1 union all select 2",
            "(select 1)",
            "explain select 1",
            "explain analyze select 1",
            "show tables",
            "show columns from atomic.events",
            "describe atomic.events",
        ] {
            assert_eq!(code(sql), "ok", "{sql}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "insert into atomic.events values (1)",
            "update atomic.events set app_id = 'x'",
            "delete from atomic.events",
            "truncate atomic.events",
            "create table t as select 1",
            "create view v as select 1",
            "create external table t stored as csv location '/etc/passwd'",
            "create database d",
            "create schema s",
            "create function f() returns int as 'x'",
            "drop table atomic.events",
            "drop view v",
            "drop schema atomic cascade",
            "alter table atomic.events add column x int",
            "copy atomic.events to '/tmp/x.parquet'",
            "copy (select 1) to '/tmp/x.csv'",
            "copy atomic.events from '/etc/passwd'",
            "set datafusion.execution.batch_size = 1",
            "set time zone 'Europe/Berlin'",
            "reset datafusion.execution.batch_size",
            "begin",
            "commit",
            "rollback",
            "prepare p as select 1",
            "execute p",
            "deallocate p",
            "declare c cursor for select 1",
            "grant all on atomic.events to x",
            "vacuum",
            "analyze atomic.events",
            "explain insert into atomic.events values (1)",
            "explain analyze copy (select 1) to '/tmp/x.csv'",
            "with a as (insert into atomic.events values (1) returning *) select * from a",
            "select 1 into t",
            "select 1 union all (select 2 into t)",
            "kill 1",
            "use atomic",
            "load 'x'",
            "listen c",
            "call p()",
        ] {
            assert!(["read_only", "syntax_error"].contains(&code(sql)), "{sql}: {}", code(sql));
        }
        assert_eq!(code("insert into atomic.events values (1)"), "read_only");
        assert_eq!(code("copy (select 1) to '/tmp/x.csv'"), "read_only");
        assert_eq!(code("set time zone 'Europe/Berlin'"), "read_only");
    }

    #[test]
    fn one_statement_at_a_time() {
        for sql in
            ["", " ", ";", "-- nothing", "select 1; select 2", "select 1; drop table atomic.events"]
        {
            assert_eq!(code(sql), "syntax_error", "{sql:?}");
        }
    }

    #[test]
    fn long_and_deep_statements_are_refused_and_do_no_harm() {
        assert_eq!(code(&format!("select '{}'", "x".repeat(BYTES_MAX))), "statement_too_long");
        assert_eq!(
            code(&format!("select {}1{}", "(".repeat(5000), ")".repeat(5000))),
            "syntax_error"
        );
        for term in [
            "+1",
            " or true",
            " is null",
            "::int",
            "-1",
            " union select 1",
            " join t on true",
            "[1]",
        ] {
            assert_eq!(
                code(&format!("select 1 from t{}", term.repeat(1001))),
                "statement_too_large",
                "{term}"
            );
        }
        assert_eq!(code(&format!("select 1 from t{}", ", t".repeat(24))), "statement_too_large");
        let calls = |count: usize| format!("select {}1{}", "abs(".repeat(count), ")".repeat(count));
        assert_eq!(code(&calls(16)), "ok");
        assert_eq!(code(&calls(17)), "statement_too_large");
        let subqueries =
            |count: usize| format!("select {}1{}", "( select ".repeat(count), ")".repeat(count));
        assert_eq!(code(&subqueries(8)), "ok");
        assert_eq!(code(&subqueries(9)), "statement_too_large");
        assert_eq!(code("select abs(1), abs(2), (abs(3)), sum(4) over (order by 1)"), "ok");
        assert_eq!(code(&format!("select {}1", "not ".repeat(1001))), "statement_too_large");
        let list = vec!["'x'"; 10_000].join(",");
        assert_eq!(code(&format!("select 1 from t where a in ({list})")), "ok");
    }

    /// Pieces of statements, so that soup made of them gets some way through the parser.
    const PIECES: &str = "select|from|where|atomic.events|e.app_id|*|,|(|)|((|))|1|-1.5e3|'text'|'|\"q\"|\"|$$x$$|$1|E'\\n'|\
        with a as|union all|except|join|on|left|lateral|group by|order by|having|limit|offset|fetch first 1 row only|\
        case when|then|else|end|in|between|and|or|not|is null|like|::int|cast(|as text|interval '1 day'|date '2026-01-01'|\
        count(*)|filter (where|over (|partition by|rows between 1 preceding and current row|array[|]|[1:2]|->>|@>|||\
        values|explain|analyze|show|describe|table|into t|insert into t|update t set|delete from t|copy|to '/tmp/x'|\
        create table t as|drop table t|set a = 1|returning *|for update|;|--|/*|*/|\u{e9}|\u{0}|\n|unnest(|exists (|any(|distinct on (";

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn whatever_the_text_it_is_refused_or_only_reads(
            pieces in proptest::collection::vec((0..PIECES.split('|').count(), ".{0,3}"), 0..30)
        ) {
            let known: Vec<&str> = PIECES.split('|').collect();
            let words = pieces.iter().map(|(at, more)| match more.len() {
                3 => more.clone(),
                _ => known[*at].to_owned(),
            });
            let sql = words.collect::<Vec<_>>().join(" ");
            for sql in [format!("select {sql}"), format!("explain {sql}"), sql] {
                if let Ok(statement) = parse(&sql) {
                    let printed = statement.to_string();
                    let first = printed.trim_start_matches('(').split(' ').next().unwrap_or_default();
                    let reads = ["SELECT", "WITH", "VALUES", "TABLE", "FROM", "EXPLAIN", "DESCRIBE", "DESC", "SHOW"];
                    prop_assert!(reads.contains(&first), "{} was let through as {}", sql, printed);
                }
            }
        }
    }
}
