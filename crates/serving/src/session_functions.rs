//! Functions that tell a client who and where it is, and those that PostgreSQL's tools call over its catalogues.
//!
//! Registered over those of `datafusion-pg-catalog`, whose answers are for another database. Each gives the same value
//! whatever it is given: there is one user, one database, and no comment, default or index.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::catalogue::USER;
use crate::pg::version;
use crate::sql::{CATALOG, DEFAULT_SCHEMA};

/// Puts the functions into a session.
///
/// # Errors
/// Those of the registry.
pub(crate) fn register(session: &mut SessionState) -> Result<()> {
    for (name, value) in constants() {
        session.register_udf(Arc::new(ScalarUDF::new_from_impl(Constant::new(name, value))))?;
    }
    session.register_udf(Arc::new(ScalarUDF::new_from_impl(CurrentSetting::default())))?;
    session.register_udf(Arc::new(ScalarUDF::new_from_impl(Format::default())))?;
    Ok(())
}

fn constants() -> Vec<(&'static str, ScalarValue)> {
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    let no_text = || ScalarValue::Utf8(None);
    let yes = || ScalarValue::Boolean(Some(true));
    let no = || ScalarValue::Boolean(Some(false));
    let schemas: ArrayRef = Arc::new(StringArray::from(vec!["pg_catalog", DEFAULT_SCHEMA]));
    let item = Arc::new(arrow::datatypes::Field::new_list_field(DataType::Utf8, true));
    let offsets = arrow::buffer::OffsetBuffer::from_lengths([schemas.len()]);
    let schemas = ListArray::new(item, offsets, schemas, None);
    vec![
        ("version", text(&version())),
        ("current_database", text(CATALOG)),
        ("current_catalog", text(CATALOG)),
        ("current_schema", text(DEFAULT_SCHEMA)),
        ("current_schemas", ScalarValue::List(Arc::new(schemas))),
        ("session_user", text(USER)),
        ("current_user", text(USER)),
        ("current_role", text(USER)),
        ("user", text(USER)),
        ("pg_get_userbyid", text(USER)),
        ("pg_encoding_to_char", text("UTF8")),
        ("inet_server_addr", no_text()),
        ("inet_client_addr", no_text()),
        ("pg_is_in_recovery", no()),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_is_other_temp_schema", no()),
        ("pg_function_is_visible", yes()),
        ("pg_type_is_visible", yes()),
        ("pg_opclass_is_visible", yes()),
        ("has_column_privilege", yes()),
        ("has_function_privilege", yes()),
        ("has_sequence_privilege", no()),
        ("pg_has_role", yes()),
        ("obj_description", no_text()),
        ("col_description", no_text()),
        ("shobj_description", no_text()),
        ("pg_get_viewdef", no_text()),
        ("pg_get_indexdef", no_text()),
        ("pg_get_triggerdef", no_text()),
        ("pg_get_ruledef", no_text()),
        ("pg_get_serial_sequence", no_text()),
        ("pg_get_function_result", no_text()),
        ("pg_get_function_arguments", no_text()),
        ("pg_get_function_identity_arguments", no_text()),
        ("pg_get_functiondef", no_text()),
        ("pg_tablespace_location", no_text()),
        ("pg_relation_filenode", ScalarValue::Int32(None)),
        // Asked for the types of extensions, of which there are none.
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_advisory_unlock_all", no_text()),
        ("pg_size_pretty", no_text()),
        ("pg_database_size", ScalarValue::Int64(None)),
        ("pg_table_size", ScalarValue::Int64(None)),
        ("pg_indexes_size", ScalarValue::Int64(None)),
    ]
}

/// A function of any arguments with one answer.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Constant {
        Constant { name, value, signature: any_arguments() }
    }
}

fn any_arguments() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Stable)
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name[, missing_ok])` of a constant name: the value that a connection begins with.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl Default for CurrentSetting {
    fn default() -> CurrentSetting {
        CurrentSetting { signature: any_arguments() }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => name.try_as_str().flatten().unwrap_or_default(),
            _ => "",
        };
        let value = crate::pg::default_setting(name);
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value)))
    }
}

/// `format(text, …)` with `%s`, `%I`, `%L` and `%%`, each of which takes the next argument once: so that what it makes is
/// no longer than what it is given.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl Default for Format {
    fn default() -> Format {
        Format { signature: any_arguments() }
    }
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let columns = columns.iter().map(|column| cast(column, &DataType::Utf8));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
        let texts: Vec<&StringArray> = columns.iter().map(|column| column.as_string()).collect();
        let rows = texts.first().map_or(0, |column| column.len());
        let made = (0..rows).map(|row| format_row(&texts, row)).collect::<Result<StringArray>>()?;
        if is_constant && made.len() == 1 {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?));
        }
        Ok(ColumnarValue::Array(Arc::new(made)))
    }
}

fn format_row(columns: &[&StringArray], row: usize) -> Result<Option<String>> {
    let mut values = columns.iter().map(|column| column.is_valid(row).then(|| column.value(row)));
    let Some(Some(pattern)) = values.next() else { return Ok(None) };
    let mut text = String::new();
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let wrong = |what: &str| Err(DataFusionError::Execution(format!("format(): {what}")));
        let kind = match characters.next() {
            Some('%') => {
                text.push('%');
                continue;
            }
            Some(kind @ ('s' | 'I' | 'L')) => kind,
            _ => return wrong("%s, %I, %L and %% are known"),
        };
        let Some(value) = values.next() else { return wrong("too few arguments") };
        match (kind, value) {
            ('s', value) => text.push_str(value.unwrap_or_default()),
            ('I', Some(name)) => text.push_str(&identifier(name)),
            ('I', None) => return wrong("a null is no identifier"),
            (_, None) => text.push_str("NULL"),
            (_, Some(value)) => text.push_str(&format!("'{}'", value.replace('\'', "''"))),
        }
    }
    Ok(Some(text))
}

/// In quotes where SQL needs them.
fn identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
