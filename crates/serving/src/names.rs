//! The names of result columns, as PostgreSQL gives them: `count`, not `count(*)`; `?column?` for an operator.
//!
//! Called by the engine with each statement before it is planned. DataFusion names an expression by its text, and wants
//! names to be unique in a list; so the names are kept beside the plan, and an expression that stands in the list twice
//! is given an alias that nobody sees.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, AccessExpr, DataType, Expr, Ident, ObjectName, SelectItem, SetExpr,
};

/// The names of a statement's columns, as far as they do not follow from the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Of the columns before the first `*`, and of those after the last.
    front: Vec<Option<String>>,
    back: Vec<Option<String>>,
}

impl Names {
    /// The names that a statement gives as it was written.
    pub(crate) fn of_statement(statement: &Statement) -> Names {
        let Statement::Statement(statement) = statement else { return Names::default() };
        let ast::Statement::Query(query) = statement.as_ref() else { return Names::default() };
        first_select(&query.body).map(Names::of).unwrap_or_default()
    }

    fn of(select: &ast::Select) -> Names {
        let items = &select.projection;
        let named = |items: &[SelectItem]| items.iter().map(name_of_item).collect();
        match (items.iter().position(is_star), items.iter().rposition(is_star)) {
            (Some(first), Some(last)) => {
                Names { front: named(&items[..first]), back: named(&items[last + 1..]) }
            }
            _ => Names { front: named(items), back: Vec::new() },
        }
    }

    /// The names of the columns of a result.
    pub(crate) fn of_result(&self, schema: &Schema) -> Vec<String> {
        let count = schema.fields().len();
        let back_from = count.saturating_sub(self.back.len());
        let fields = schema.fields().iter().enumerate();
        let named = fields.map(|(at, field)| {
            let name = match self.front.get(at) {
                Some(name) => name,
                None => at.checked_sub(back_from).and_then(|at| self.back.get(at)).unwrap_or(&None),
            };
            name.clone().unwrap_or_else(|| field.name().clone())
        });
        named.collect()
    }
}

/// Gives aliases to expressions that stand in the list of a statement twice.
pub(crate) fn make_lists_unique(statement: &mut Statement) {
    if let Statement::Statement(statement) = statement
        && let ast::Statement::Query(query) = statement.as_mut()
    {
        make_unique(&mut query.body);
    }
}

/// PostgreSQL names the result of a set operation by its first query.
fn first_select(body: &SetExpr) -> Option<&ast::Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn make_unique(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => make_items_unique(&mut select.projection),
        SetExpr::Query(query) => make_unique(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            make_unique(left);
            make_unique(right);
        }
        _ => {}
    }
}

fn make_items_unique(items: &mut [SelectItem]) {
    let mut seen = BTreeSet::new();
    let has_star = items.iter().any(is_star);
    for (at, item) in items.iter_mut().enumerate() {
        let is_new = match item {
            // It may be one of the columns that the star stands for.
            SelectItem::UnnamedExpr(expr) => {
                !(has_star && is_column(expr)) && seen.insert(planned_name(expr))
            }
            SelectItem::ExprWithAlias { alias, .. } => seen.insert(alias.value.clone()),
            _ => true,
        };
        if is_new {
            continue;
        }
        let alias = Ident::new(format!("__{at}"));
        match item {
            SelectItem::UnnamedExpr(expr) => {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
            SelectItem::ExprWithAlias { alias: own, .. } => *own = alias,
            _ => {}
        }
    }
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

fn is_column(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

/// What DataFusion's name of an expression depends on: a cast has the name of its operand, a column its own.
fn planned_name(expr: &Expr) -> String {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => planned_name(expr),
        Expr::CompoundIdentifier(names) => names.last().map(normal).unwrap_or_default(),
        Expr::Identifier(name) => normal(name),
        other => other.to_string(),
    }
}

/// `None` where the plan has the right name: a column, an alias.
fn name_of_item(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => {
            Some(name_of(expr).unwrap_or_else(|| "?column?".to_owned()))
        }
        SelectItem::ExprWithAlias { alias, .. } => Some(normal(alias)),
        _ => None,
    }
}

/// An unquoted name is in lower case.
fn normal(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

fn last(name: &ObjectName) -> Option<String> {
    name.0.last().and_then(|part| part.as_ident()).map(normal)
}

fn name_of(expr: &Expr) -> Option<String> {
    let word = |word: &str| Some(word.to_owned());
    match expr {
        Expr::Identifier(name) => Some(normal(name)),
        Expr::CompoundIdentifier(names) => names.last().map(normal),
        Expr::CompoundFieldAccess { root, access_chain } => {
            let field = access_chain.iter().rev().find_map(|access| match access {
                AccessExpr::Dot(field) => name_of(field),
                AccessExpr::Subscript(_) => None,
            });
            field.or_else(|| name_of(root))
        }
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => name_of(inner),
        Expr::Function(function) => last(&function.name),
        Expr::Cast { expr, data_type, .. } => name_of(expr).or_else(|| type_name(data_type)),
        Expr::TypedString(text) => type_name(&text.data_type),
        Expr::Interval(_) => word("interval"),
        Expr::Case { else_result, .. } => {
            else_result.as_deref().and_then(name_of).or_else(|| word("case"))
        }
        Expr::Exists { .. } => word("exists"),
        Expr::Subquery(query) => {
            let select = first_select(&query.body)?;
            select.projection.first().and_then(name_of_item)
        }
        Expr::Array(_) => word("array"),
        Expr::Tuple(_) => word("row"),
        Expr::Extract { .. } => word("extract"),
        Expr::Position { .. } => word("position"),
        Expr::Substring { .. } => word("substring"),
        Expr::Trim { .. } => word("btrim"),
        Expr::Overlay { .. } => word("overlay"),
        Expr::Ceil { .. } => word("ceil"),
        Expr::Floor { .. } => word("floor"),
        Expr::AtTimeZone { .. } => word("timezone"),
        _ => None,
    }
}

/// PostgreSQL's own name of a type.
fn type_name(data_type: &DataType) -> Option<String> {
    let text = match data_type {
        DataType::Custom(name, _) => return last(name),
        other => other.to_string().to_lowercase(),
    };
    let text = text.split('(').next().unwrap_or_default().trim();
    let name = match text {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "double precision" | "double" | "float" => "float8",
        "real" => "float4",
        "boolean" => "bool",
        "decimal" => "numeric",
        "character varying" => "varchar",
        "character" | "char" => "bpchar",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        other => other,
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    fn names(sql: &str, columns: usize) -> Vec<String> {
        let names = Names::of_statement(&crate::statement::parse(sql).unwrap());
        let fields = (0..columns)
            .map(|at| Field::new(format!("f{at}"), arrow::datatypes::DataType::Utf8, true));
        names.of_result(&Schema::new(fields.collect::<Vec<_>>()))
    }

    #[test]
    fn columns_are_named_as_in_postgresql() {
        for (sql, expect) in [
            (
                "select count(*), SUM(x), pg_catalog.version() from t",
                vec!["count", "sum", "version"],
            ),
            ("select 1, 'a', -x, a + b, $1 from t", vec!["?column?"; 5]),
            ("select a, t.B, \"C\" from t", vec!["a", "b", "C"]),
            ("select a as X, b \"Y\" from t", vec!["x", "Y"]),
            (
                "select a::int, 1::int, '1'::text, count(*)::int, cast(1 as decimal(3,2))",
                vec!["a", "int4", "text", "count", "numeric"],
            ),
            (
                "select case when a then b end, case when a then 1 else c end, coalesce(a, b)",
                vec!["case", "c", "coalesce"],
            ),
            (
                "select (select max(x) from t), exists (select 1), array[1], (a)",
                vec!["max", "exists", "array", "a"],
            ),
            (
                "select extract(year from a), date '2024-01-01', interval '1 day'",
                vec!["extract", "date", "interval"],
            ),
            ("select 1 union select 2 as x", vec!["?column?"]),
            ("with a as (select 1) select count(*) from a", vec!["count"]),
        ] {
            assert_eq!(names(sql, expect.len()), expect, "{sql}");
        }
    }

    #[test]
    fn a_star_keeps_the_names_of_its_columns() {
        assert_eq!(
            names("select count(*) over (), *, 1 from t", 4),
            ["count", "f1", "f2", "?column?"]
        );
        assert_eq!(names("select * from t", 2), ["f0", "f1"]);
        assert_eq!(names("values (1, 2)", 2), ["f0", "f1"]);
    }
}
