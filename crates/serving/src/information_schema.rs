//! `information_schema` with the names and types of PostgreSQL: tables, columns, schemata, views, and the empty ones for
//! what does not exist here.
//!
//! The lists of functions and of the engine's own settings are DataFusion's.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::information_schema::InformationSchemaProvider;
use datafusion::catalog::{
    CatalogProviderList, MemTable, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::session_state::SessionState;

use crate::catalogue::{Shape, USER};
use crate::sql::CATALOG;

/// Tables of ours over DataFusion's.
#[derive(Debug)]
struct InformationSchema {
    ours: Vec<(&'static str, Arc<dyn TableProvider>)>,
    others: InformationSchemaProvider,
}

/// The schema for these tables.
pub(crate) fn schema(shapes: &[Shape], session: &SessionState) -> Result<Arc<dyn SchemaProvider>> {
    let none: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
    let others = InformationSchemaProvider::new(none)
        .with_table_functions(session.table_functions().clone());
    let ours = vec![
        ("tables", tables(shapes)?),
        ("columns", columns(shapes)?),
        ("schemata", schemata(shapes)?),
        ("views", views(shapes)?),
        (
            "table_constraints",
            empty(&[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "constraint_type",
                "is_deferrable",
                "initially_deferred",
                "enforced",
            ])?,
        ),
        (
            "key_column_usage",
            empty(&[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "ordinal_position",
                "position_in_unique_constraint",
            ])?,
        ),
        (
            "referential_constraints",
            empty(&[
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
                "unique_constraint_catalog",
                "unique_constraint_schema",
                "unique_constraint_name",
                "match_option",
                "update_rule",
                "delete_rule",
            ])?,
        ),
        (
            "constraint_column_usage",
            empty(&[
                "table_catalog",
                "table_schema",
                "table_name",
                "column_name",
                "constraint_catalog",
                "constraint_schema",
                "constraint_name",
            ])?,
        ),
        (
            "sequences",
            empty(&["sequence_catalog", "sequence_schema", "sequence_name", "data_type"])?,
        ),
        (
            "triggers",
            empty(&[
                "trigger_catalog",
                "trigger_schema",
                "trigger_name",
                "event_object_schema",
                "event_object_table",
            ])?,
        ),
    ];
    Ok(Arc::new(InformationSchema { ours, others }))
}

#[async_trait]
impl SchemaProvider for InformationSchema {
    fn table_names(&self) -> Vec<String> {
        let others = ["df_settings", "routines", "parameters"];
        self.ours.iter().map(|(name, _)| *name).chain(others).map(str::to_owned).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match self.ours.iter().find(|(ours, _)| *ours == name) {
            Some((_, table)) => Ok(Some(Arc::clone(table))),
            None => self.others.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.ours.iter().any(|(ours, _)| *ours == name) || self.others.table_exist(name)
    }
}

fn table_type(kind: TableType) -> &'static str {
    match kind {
        TableType::Base => "BASE TABLE",
        TableType::View => "VIEW",
        TableType::Temporary => "LOCAL TEMPORARY",
    }
}

fn tables(shapes: &[Shape]) -> Result<Arc<dyn TableProvider>> {
    let each = |value: fn(&Shape) -> &str| texts(shapes.iter().map(|shape| Some(value(shape))));
    let nothing = || texts(shapes.iter().map(|_| None));
    let no = || texts(shapes.iter().map(|_| Some("NO")));
    table([
        ("table_catalog", each(|_| CATALOG)),
        ("table_schema", each(|shape| shape.schema)),
        ("table_name", each(|shape| shape.name)),
        ("table_type", each(|shape| table_type(shape.kind))),
        ("self_referencing_column_name", nothing()),
        ("reference_generation", nothing()),
        ("user_defined_type_catalog", nothing()),
        ("user_defined_type_schema", nothing()),
        ("user_defined_type_name", nothing()),
        ("is_insertable_into", no()),
        ("is_typed", no()),
        ("commit_action", nothing()),
    ])
}

fn schemata(shapes: &[Shape]) -> Result<Arc<dyn TableProvider>> {
    let mut names: Vec<&str> = shapes.iter().map(|shape| shape.schema).collect();
    names.extend(["information_schema", "pg_catalog"]);
    names.sort_unstable();
    names.dedup();
    let all = |value: Option<&'static str>| texts(names.iter().map(|_| value));
    table([
        ("catalog_name", all(Some(CATALOG))),
        ("schema_name", texts(names.iter().map(|name| Some(*name)))),
        ("schema_owner", all(Some(USER))),
        ("default_character_set_catalog", all(None)),
        ("default_character_set_schema", all(None)),
        ("default_character_set_name", all(None)),
        ("sql_path", all(None)),
    ])
}

fn views(shapes: &[Shape]) -> Result<Arc<dyn TableProvider>> {
    let views: Vec<&Shape> = shapes.iter().filter(|shape| shape.kind == TableType::View).collect();
    let all = |value: Option<&'static str>| texts(views.iter().map(|_| value));
    table([
        ("table_catalog", all(Some(CATALOG))),
        ("table_schema", texts(views.iter().map(|shape| Some(shape.schema)))),
        ("table_name", texts(views.iter().map(|shape| Some(shape.name)))),
        ("view_definition", all(None)),
        ("check_option", all(Some("NONE"))),
        ("is_updatable", all(Some("NO"))),
        ("is_insertable_into", all(Some("NO"))),
    ])
}

/// A column of a table, with its place.
struct Column<'a> {
    shape: &'a Shape,
    at: i32,
    field: &'a Field,
}

impl Column<'_> {
    /// The type as the standard spells it.
    fn data_type(&self) -> String {
        match self.field.data_type() {
            DataType::Timestamp(_, None) => "timestamp without time zone".to_owned(),
            DataType::Decimal128(..) => "numeric".to_owned(),
            _ => match views::schema::sql_type(self.field) {
                name if name.ends_with("[]") => "ARRAY".to_owned(),
                name => name,
            },
        }
    }

    /// The type as PostgreSQL calls it itself.
    fn udt_name(&self) -> &'static str {
        match self.field.data_type() {
            DataType::Boolean => "bool",
            DataType::Int32 => "int4",
            DataType::Int64 => "int8",
            DataType::Float64 => "float8",
            DataType::Decimal128(..) => "numeric",
            DataType::Timestamp(_, None) => "timestamp",
            _ if views::schema::sql_type(self.field) == "json" => "json",
            _ => "text",
        }
    }

    /// Digits, their base, and those behind the point.
    fn digits(&self) -> [Option<i32>; 3] {
        match self.field.data_type() {
            DataType::Int32 => [Some(32), Some(2), Some(0)],
            DataType::Int64 => [Some(64), Some(2), Some(0)],
            DataType::Float64 => [Some(53), Some(2), None],
            DataType::Decimal128(precision, scale) => {
                [Some(i32::from(*precision)), Some(10), Some(i32::from(*scale))]
            }
            _ => [None; 3],
        }
    }

    fn datetime_precision(&self) -> Option<i32> {
        matches!(self.field.data_type(), DataType::Timestamp(..)).then_some(6)
    }
}

fn columns(shapes: &[Shape]) -> Result<Arc<dyn TableProvider>> {
    fn of_shape(shape: &Shape) -> Vec<Column<'_>> {
        let fields = shape.columns.fields().iter().zip(1..);
        fields.map(|(field, at)| Column { shape, at, field }).collect::<Vec<_>>()
    }
    let all: Vec<Column<'_>> = shapes.iter().flat_map(of_shape).collect();
    let text = |value: Option<&'static str>| texts(all.iter().map(|_| value));
    let numbers = |value: fn(&Column<'_>) -> Option<i32>| -> ArrayRef {
        Arc::new(all.iter().map(value).collect::<Int32Array>())
    };
    let data_types: Vec<String> = all.iter().map(Column::data_type).collect();
    let null = |field: &Field| if field.is_nullable() { "YES" } else { "NO" };
    table([
        ("table_catalog", text(Some(CATALOG))),
        ("table_schema", texts(all.iter().map(|column| Some(column.shape.schema)))),
        ("table_name", texts(all.iter().map(|column| Some(column.shape.name)))),
        ("column_name", texts(all.iter().map(|column| Some(column.field.name().as_str())))),
        ("ordinal_position", numbers(|column| Some(column.at))),
        ("column_default", text(None)),
        ("is_nullable", texts(all.iter().map(|column| Some(null(column.field))))),
        ("data_type", texts(data_types.iter().map(|name| Some(name.as_str())))),
        ("character_maximum_length", numbers(|_| None)),
        ("character_octet_length", numbers(|_| None)),
        ("numeric_precision", numbers(|column| column.digits()[0])),
        ("numeric_precision_radix", numbers(|column| column.digits()[1])),
        ("numeric_scale", numbers(|column| column.digits()[2])),
        ("datetime_precision", numbers(|column| column.datetime_precision())),
        ("interval_type", text(None)),
        ("collation_name", text(None)),
        ("domain_name", text(None)),
        ("udt_catalog", text(Some(CATALOG))),
        ("udt_schema", text(Some("pg_catalog"))),
        ("udt_name", texts(all.iter().map(|column| Some(column.udt_name())))),
        ("is_identity", text(Some("NO"))),
        ("identity_generation", text(None)),
        ("is_generated", text(Some("NEVER"))),
        ("generation_expression", text(None)),
        ("is_updatable", text(Some("NO"))),
    ])
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> Result<Arc<dyn TableProvider>> {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
    Ok(Arc::new(MemTable::try_new(rows.schema(), vec![vec![rows]])?))
}

/// A table without rows.
fn empty(columns: &[&str]) -> Result<Arc<dyn TableProvider>> {
    let fields = columns.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?))
}
