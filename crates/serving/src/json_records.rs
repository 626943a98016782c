//! Records and lists of them where JSON is wanted: `cart->>'total'`, `to_json(cart)`.
//!
//! Clients see these columns as `json`, and ask them as such. The operators of JSON take texts here, so that a record
//! becomes its JSON text first. Put into a session as a planner of expressions and a function.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_schema::ExprSchemable as _;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use views::schema::sql_type;

use crate::answer;

#[derive(Debug)]
pub(crate) struct JsonRecords;

impl ExprPlanner for JsonRecords {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let takes_json = matches!(
            expr.op,
            BinaryOperator::Arrow | BinaryOperator::LongArrow | BinaryOperator::Question
        );
        // What has no type yet, a parameter for example, is for others.
        if takes_json && expr.left.get_type(schema).is_ok_and(|of| is_json(&of)) {
            expr.left = to_json().call(vec![expr.left]);
        }
        Ok(PlannerResult::Original(expr))
    }
}

fn is_json(of: &DataType) -> bool {
    sql_type(&Field::new("", of.clone(), true)) == "json"
}

/// `to_json(x)`: the JSON text of a record or a list; a text is taken to be JSON already.
pub(crate) fn to_json() -> ScalarUDF {
    ScalarUDF::from(ToJson(Signature::any(1, Volatility::Immutable)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToJson(Signature);

impl ScalarUDFImpl for ToJson {
    fn name(&self) -> &str {
        "to_json"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match arguments {
            [text @ (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)] => text.clone(),
            _ => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [value] = &values[..] else {
            return datafusion::common::exec_err!("to_json takes one value");
        };
        if matches!(value.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Ok(ColumnarValue::Array(Arc::clone(value)));
        }
        let texts = StringArray::from(answer::json_texts(value.as_ref())?);
        Ok(ColumnarValue::Array(Arc::new(texts) as ArrayRef))
    }
}
