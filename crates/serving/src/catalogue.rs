//! The system catalogues and session functions that PostgreSQL's clients ask: `pg_catalog`, `information_schema`,
//! `version()` and the like.
//!
//! Made when the engine starts, and again when a pin has other wide columns: which tables there are does not depend on a
//! pin, nor do their other columns. The tables of `pg_catalog` are those of `datafusion-pg-catalog`; `information_schema` and the functions that
//! say who and where one is are ours.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

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
use datafusion::physical_expr::expressions::{case, col, in_list, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion_pg_catalog::pg_catalog::context::{PgCatalogContextProvider, Role};
use datafusion_pg_catalog::setup_pg_catalog;
use views::catalog::Table;
use views::schema::sql_type;

use crate::information_schema;
use crate::lambda_tables::Kind;
use crate::merge;
use crate::session_functions;
use crate::sql::{CATALOG, DEFAULT_SCHEMA};
use crate::wide::WideTables;

/// The one user that there is.
pub(crate) const USER: &str = "snowmelt";

/// The schemas for the newest wide columns.
#[derive(Debug)]
pub(crate) struct Catalogues {
    /// What every session begins with, before the schemas were installed.
    session: SessionState,
    newest: Mutex<(Arc<WideTables>, Arc<Catalogue>)>,
}

/// The schemas that are the same for every statement whose pin has the same wide columns.
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
fn shapes(wide: &WideTables) -> Vec<Shape> {
    let atomic = [Table::BadRows, Table::Events, Table::FailedEvents].map(|table| Shape {
        schema: DEFAULT_SCHEMA,
        name: table.name(),
        columns: merge::shown_schema(table, wide.of(table)),
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
    shapes(&WideTables::default()).iter().map(|shape| shape.name.to_owned()).collect()
}

impl Catalogues {
    /// Makes the schemas, and gives the session the functions.
    pub(crate) fn install(session: SessionState) -> Result<(Catalogues, SessionState)> {
        let wide = Arc::new(WideTables::default());
        let (catalogue, installed) = Catalogue::install(session.clone(), &wide)?;
        let newest = Mutex::new((wide, Arc::new(catalogue)));
        Ok((Catalogues { session, newest }, installed))
    }

    /// The schemas for the columns of a pin. They are made anew when those are others than the last ones.
    pub(crate) fn of(&self, wide: &Arc<WideTables>) -> Result<Arc<Catalogue>> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&newest.0, wide) {
            let (catalogue, _) = Catalogue::install(self.session.clone(), wide)?;
            *newest = (wide.clone(), Arc::new(catalogue));
        }
        Ok(newest.1.clone())
    }
}

impl Catalogue {
    fn install(mut session: SessionState, wide: &WideTables) -> Result<(Catalogue, SessionState)> {
        let shapes = shapes(wide);
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
        let pg_catalog = PgCatalog::over(pg_catalog, &shapes)?;
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
    /// The names of columns that clients get as JSON.
    json: Vec<String>,
}

impl PgCatalog {
    fn over(others: Arc<dyn SchemaProvider>, shapes: &[Shape]) -> Result<PgCatalog> {
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
        let fields = shapes.iter().flat_map(|shape| shape.columns.fields());
        let json = fields.filter(|field| sql_type(field) == "json");
        let json = json.map(|field| field.name().clone()).collect();
        Ok(PgCatalog { others, databases, json })
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
            "pg_attribute" if !self.json.is_empty() => {
                let table = self.others.table(name).await?;
                Ok(table.map(|all| Arc::new(Attributes { all, json: self.json.clone() }) as _))
            }
            name => self.others.table(name).await,
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

/// `pg_attribute` with the type of columns that are JSON for clients: those below know no such type.
#[derive(Debug)]
struct Attributes {
    all: Arc<dyn TableProvider>,
    json: Vec<String>,
}

/// The number of the type `json`.
const JSON: i32 = 114;

#[async_trait]
impl TableProvider for Attributes {
    fn schema(&self) -> SchemaRef {
        self.all.schema()
    }

    fn table_type(&self) -> TableType {
        self.all.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.all.scan(state, None, &[], limit).await?;
        let schema = rows.schema();
        let names = self.json.iter().map(|name| lit(name.as_str())).collect();
        let is_json = in_list(col("attname", &schema)?, names, &false, &schema)?;
        let known = col("atttypid", &schema)?;
        let number = case(None, vec![(is_json, lit(JSON))], Some(known))?;
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let shown = projection.unwrap_or(&all).iter().map(|at| {
            let name = schema.field(*at).name();
            let value = match name.as_str() {
                "atttypid" => Arc::clone(&number),
                name => col(name, &schema)?,
            };
            Ok((value, name.clone()))
        });
        let shown = shown.collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(ProjectionExec::try_new(shown, rows)?))
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
