//! What makes a recipe of the configuration: the schema folders, the registries and the enrichments as they are now.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use assets::ask::Ask;
use assets::enrichments::Source;
use assets::outside::Outside;
use assets::resolver_config::ResolverConfig;
use assets::{Answers, Folders};
use enrich::Recipe;
use model::files::Files;
use stream::disk::Disk;

use crate::config::Config;

/// What makes a recipe of the configuration, and answers what it leaves open.
pub(crate) struct Recipes {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) enrich: crate::config::Enrich,
    pub(crate) enrichments: Arc<Source>,
    pub(crate) resolver: Option<ResolverConfig>,
    pub(crate) answers: Arc<Answers>,
}

impl Recipes {
    /// Asks nobody yet.
    pub(crate) fn open(
        config: &Config,
        files: &Arc<dyn Files>,
        data_dir: &Path,
    ) -> Result<Recipes> {
        let resolver = config.enrich.resolver_config().context("read `enrich.resolver`")?;
        let ask = resolver.as_ref().map(|resolver| Arc::new(resolver.http()) as Arc<dyn Ask>);
        let in_memory_max = resolver
            .as_ref()
            .map_or(assets::answers::IN_MEMORY_DEFAULT, |resolver| resolver.in_memory_max);
        let allowed = config.enrich.allowed_hosts().context("read `enrich.look-up-hosts`")?;
        let answers = Answers::open(Arc::clone(files), data_dir, ask, in_memory_max)
            .context("open the facts")?
            .looking_up(Arc::new(Outside::new(allowed)));
        let (files, enrich) = (Arc::clone(files), config.enrich.clone());
        let enrichments =
            Source::new(Arc::clone(&files), enrich.configured()).with_data_dir(data_dir);
        let enrichments = match enrich.assets_update_period {
            Duration::ZERO => enrichments,
            period => enrichments.refreshing(period),
        };
        let enrichments = Arc::new(enrichments);
        Ok(Recipes { files, enrich, enrichments, resolver, answers: Arc::new(answers) })
    }

    /// Says which schemas of a recipe the configuration no longer names: it may be another one than before, and what
    /// they made good events of would be bad rows from now on.
    pub(crate) fn warn_of_lost_schemas(&self, in_force: &Recipe, proposed: &Recipe) {
        let kept = |key| proposed.schemas().find(key).is_some();
        let mut lost = in_force.schemas().local().map(|(key, _)| key).filter(|key| !kept(key));
        let Some(first) = lost.next() else { return };
        tracing::warn!(
            schemas = 1 + lost.count(),
            first = first.as_str(),
            folders = ?self.enrich.schemas,
            "the recipe in force has schemas that the configuration no longer names; from the next iteration on their \
             events become bad rows. Was `enrich.schemas` forgotten? A configuration file keeps it"
        );
    }

    pub(crate) fn folders(&self) -> Folders {
        let mut folders = self.enrich.schemas.clone();
        folders.extend(self.resolver.iter().flat_map(|resolver| resolver.folders.clone()));
        Folders::new(Arc::clone(&self.files), folders)
    }

    /// The recipe as the configuration, the schema folders and the registries have it now.
    pub(crate) fn propose(&self, in_force: Option<&Recipe>) -> Result<Recipe, assets::Error> {
        let folders = self.folders();
        let resolver = self.resolver.as_ref().map(|resolver| &resolver.resolver);
        let settings = self.enrich.settings();
        let recipe =
            assets::proposed_recipe(&folders, settings, resolver, in_force, &self.answers)?;
        let enrichments = match (self.enrichments.read(), in_force) {
            (Ok(enrichments), _) => enrichments,
            (Err(error), Some(in_force)) => {
                // Once it runs, a file that is away for a moment must not hold up the batch layer.
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the enrichments stay as they are");
                in_force.enrichments().clone()
            }
            (Err(error), None) => return Err(error),
        };
        Ok(recipe.with_enrichments(enrichments))
    }
}

/// Reads all that a recipe of this configuration is made of, and changes nothing.
///
/// # Errors
/// What stands in the way of it: a schema that cannot be read, a resolver that is none.
pub(crate) fn check_recipe(config: &Config) -> Result<()> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let resolver = config.enrich.resolver_config().context("read `enrich.resolver`")?;
    let mut folders = config.enrich.schemas.clone();
    folders.extend(resolver.iter().flat_map(|resolver| resolver.folders.clone()));
    let folders = Folders::new(files, folders);
    assets::current_recipe(&folders, config.enrich.settings()).context("read `enrich.schemas`")?;
    Ok(())
}
