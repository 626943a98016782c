//! The system catalogues and session functions that PostgreSQL's clients ask: `pg_catalog`, `information_schema`,
//! `version()` and the like.
//!
//! Made once when the engine starts, because what they tell does not depend on a pin: which tables there are, and their
//! columns. The tables of `pg_catalog` are those of `datafusion-pg-catalog`; `information_schema` and the functions that
//! say who and where one is are ours.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider,
    MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider, Session, TableProvider,
};
use datafusion::common::ScalarValue;
use datafusion::datasource::TableType;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::setup_pg_catalog;
use views::catalog::Table;

use crate::information_schema;
use crate::lambda_tables::Kind;
use crate::merge;
use crate::session_functions;
use crate::sql::{CATALOG, DEFAULT_SCHEMA};

/// The one user that there is.
pub(crate) const USER: &str = "snowmelt";

/// The schemas that are the same for every statement.
#[derive(Debug)]
pub(crate) struct Catalogue {
    pg_catalog: Arc<dyn SchemaProvider>,
    information_schema: Arc<dyn SchemaProvider>,
}

/// A table as the catalogues tell it.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) schema: &'static str,
    pub(crate) name: &'static str,
    pub(crate) columns: SchemaRef,
    pub(crate) kind: TableType,
}

/// Every table of ours, in the order of their names. What `lambda` has is computed when it is asked: a view.
pub(crate) fn shapes() -> Vec<Shape> {
    let atomic = [Table::BadRows, Table::Events, Table::FailedEvents].map(|table| Shape {
        schema: DEFAULT_SCHEMA,
        name: table.name(),
        columns: merge::shown_schema(table),
        kind: TableType::Base,
    });
    let lambda = Kind::ALL.map(|kind| Shape {
        schema: "lambda",
        name: kind.name(),
        columns: kind.schema(),
        kind: TableType::View,
    });
    atomic.into_iter().chain(lambda).collect()
}

/// The names of the tables of ours.
pub(crate) fn table_names() -> BTreeSet<String> {
    shapes().iter().map(|shape| shape.name.to_owned()).collect()
}

impl Catalogue {
    /// Makes the schemas, and gives the session the functions.
    pub(crate) fn install(mut session: SessionState) -> Result<(Catalogue, SessionState)> {
        let shapes = shapes();
        let ours = Arc::new(MemoryCatalogProvider::new());
        for schema in [DEFAULT_SCHEMA, "lambda"] {
            let provider = MemorySchemaProvider::new();
            for shape in shapes.iter().filter(|shape| shape.schema == schema) {
                provider.register_table(shape.name.to_owned(), Arc::new(shape.clone()))?;
            }
            ours.register_schema(schema, Arc::new(provider))?;
        }
        let information_schema = information_schema::schema(&shapes, &session)?;
        ours.register_schema("information_schema", Arc::clone(&information_schema))?;
        let list: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        list.register_catalog(CATALOG.to_owned(), ours.clone());
        session.register_catalog_list(list);
        let context = SessionContext::new_with_state(session);
        setup_pg_catalog(&context, CATALOG, OneUser).map_err(|error| *error)?;
        let pg_catalog = ours.schema("pg_catalog");
        let pg_catalog = pg_catalog
            .ok_or_else(|| DataFusionError::Internal("pg_catalog is missing".to_owned()))?;
        let pg_catalog = PgCatalog::over(pg_catalog)?;
        let mut session = context.state();
        session_functions::register(&mut session)?;
        Ok((Catalogue { pg_catalog: Arc::new(pg_catalog), information_schema }, session))
    }

    /// Puts the schemas beside those of a statement.
    pub(crate) fn register(&self, catalog: &MemoryCatalogProvider) -> Result<()> {
        catalog.register_schema("pg_catalog", Arc::clone(&self.pg_catalog))?;
        catalog.register_schema("information_schema", Arc::clone(&self.information_schema))?;
        Ok(())
    }
}

#[async_trait]
impl TableProvider for Shape {
    fn schema(&self) -> SchemaRef {
        self.columns.clone()
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        EmptyTable::new(self.columns.clone()).scan(state, projection, filters, limit).await
    }
}

/// `pg_catalog` with the one database that there is.
#[derive(Debug)]
struct PgCatalog {
    others: Arc<dyn SchemaProvider>,
    databases: Arc<dyn TableProvider>,
}

impl PgCatalog {
    fn over(others: Arc<dyn SchemaProvider>) -> Result<PgCatalog> {
        // Nothing is waited for: the table is made in memory.
        let table = futures::executor::block_on(others.table("pg_database"))?;
        let columns = table.map(|table| table.schema());
        let columns =
            columns.ok_or_else(|| DataFusionError::Internal("no pg_database".to_owned()))?;
        let value = |field: &Field| -> Result<ArrayRef> {
            let known = match field.name().as_str() {
                "oid" => Some(ScalarValue::Int32(Some(1))),
                "datname" => Some(ScalarValue::from(CATALOG)),
                "datdba" => Some(ScalarValue::Int32(Some(10))),
                "encoding" => Some(ScalarValue::Int32(Some(6))),
                "datcollate" | "datctype" => Some(ScalarValue::from("C")),
                "datlocprovider" => Some(ScalarValue::from("c")),
                "datistemplate" => Some(ScalarValue::from(false)),
                "datallowconn" => Some(ScalarValue::from(true)),
                "datconnlimit" => Some(ScalarValue::Int32(Some(-1))),
                "dattablespace" => Some(ScalarValue::Int32(Some(1663))),
                _ if field.is_nullable() => None,
                _ => Some(ScalarValue::new_default(field.data_type())?),
            };
            let null = ScalarValue::try_from(field.data_type())?;
            let known = known.map_or(Ok(null), |value| value.cast_to(field.data_type()))?;
            known.to_array()
        };
        let values = columns.fields().iter().map(|field| value(field)).collect::<Result<_>>()?;
        let row = RecordBatch::try_new(columns.clone(), values)?;
        let databases = Arc::new(MemTable::try_new(columns, vec![vec![row]])?);
        Ok(PgCatalog { others, databases })
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        match name {
            "pg_database" => Ok(Some(Arc::clone(&self.databases))),
            name => self.others.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

/// Roles as `\du` and drivers ask for them.
#[derive(Clone, Debug)]
struct OneUser;

#[async_trait]
impl PgCatalogContextProvider for OneUser {
    async fn roles(&self) -> Vec<String> {
        vec![USER.to_owned()]
    }

    async fn role(&self, name: &str) -> Option<Role> {
        (name == USER).then(|| Role {
            name: USER.to_owned(),
            is_superuser: false,
            can_login: true,
            can_create_db: false,
            can_create_role: false,
            can_create_user: false,
            can_replication: false,
            grants: Vec::new(),
            inherited_roles: Vec::new(),
        })
    }
}
