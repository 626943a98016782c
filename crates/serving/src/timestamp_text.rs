//! Texts that are compared with timestamps: `collector_tstamp < '9999-12-31'`.
//!
//! The engine would bring both sides to nanoseconds, which end in the year 2262: such a text, or one event with an odd
//! clock, would fail the statement. Here the text takes the type of the other side, as in PostgreSQL. Put into a session
//! as a planner of expressions.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_schema::ExprSchemable as _;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(crate) struct TimestampText;

impl ExprPlanner for TimestampText {
    fn plan_binary_op(
        &self,
        mut expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let compares = matches!(
            expr.op,
            BinaryOperator::Eq
                | BinaryOperator::NotEq
                | BinaryOperator::Lt
                | BinaryOperator::LtEq
                | BinaryOperator::Gt
                | BinaryOperator::GtEq
        );
        if compares {
            if let Some(of) = microseconds(&expr.left, schema)
                && is_text(&expr.right)
            {
                expr.right = cast(expr.right, of);
            } else if let Some(of) = microseconds(&expr.right, schema)
                && is_text(&expr.left)
            {
                expr.left = cast(expr.left, of);
            }
        }
        Ok(PlannerResult::Original(expr))
    }
}

/// The type of an expression that is a timestamp as our columns are.
fn microseconds(expr: &Expr, schema: &DFSchema) -> Option<DataType> {
    // What has no type yet, a parameter for example, is for others.
    let of = expr.get_type(schema).ok()?;
    matches!(of, DataType::Timestamp(TimeUnit::Microsecond, _)).then_some(of)
}

fn is_text(expr: &Expr) -> bool {
    let Expr::Literal(value, _) = expr else { return false };
    matches!(value.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}
