//! A disk that keeps only what it promised: after a crash, unsynced pages may be lost or torn and unsynced names may be
//! missing; before one, an fsync may fail or take long, the disk may be full, and the process may die in the middle of any
//! operation.
//!
//! The contract is that of [`model::files`]. Everything that is left to chance is drawn from the seed, so a run repeats.
//! Not here: what the roles do with it ([`crate::log`], [`crate::world`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use model::files::{File, Files, Space};

use crate::chance::Chance;

/// What the disk loses independently of its neighbours.
const PAGE_BYTES: usize = 512;

/// One simulated disk; clones are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

/// What may go wrong, and when.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The process dies inside the operation with this number, counted from the last restart.
    pub kill_at: Option<u64>,
    /// The sync with this number, counted from the last restart, fails, and its pages are in doubt.
    pub fail_sync_at: Option<u64>,
}

struct State {
    chance: Chance,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// What a running process sees.
    names: BTreeMap<PathBuf, u64>,
    /// What a crash leaves.
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not yet durable, in order, per folder.
    pending_names: BTreeMap<PathBuf, Vec<NameChange>>,
    dirs: BTreeSet<PathBuf>,
    capacity_bytes: u64,
    faults: Faults,
    operations: u64,
    syncs: u64,
    /// How long a sync may take, at most.
    sync_ms_max: u64,
    /// What all syncs together have taken.
    elapsed_ms: u64,
    dead: bool,
    /// Handles of an earlier process must not write any more.
    process: u64,
}

#[derive(Clone)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Replace { from: PathBuf, to: PathBuf, inode: u64 },
}

impl Disk {
    /// An empty disk with room for `capacity_bytes`.
    pub fn new(seed: u64, capacity_bytes: u64) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            chance: Chance::seeded(seed),
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: BTreeMap::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
            capacity_bytes,
            faults: Faults::default(),
            operations: 0,
            syncs: 0,
            sync_ms_max: 0,
            elapsed_ms: 0,
            dead: false,
            process: 0,
        })))
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Makes the disk larger or smaller.
    pub fn set_capacity(&self, capacity_bytes: u64) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// From now on, also after a restart, each sync takes up to so long. Nobody waits for it; the time shows in
    /// [`Disk::elapsed_ms`], so that a clock can pass in the middle of an operation.
    pub fn set_sync_ms_max(&self, ms: u64) {
        self.state().sync_ms_max = ms;
    }

    /// What all syncs together have taken.
    pub fn elapsed_ms(&self) -> u64 {
        self.state().elapsed_ms
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Whether the process was killed by [`Faults::kill_at`].
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Operations since the last restart: the range in which a kill can be placed.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs since the last restart: the range in which a failing one can be placed.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The process is gone, the machine is not: everything written is still there. Old handles are dead.
    pub fn restart_after_kill(&self) {
        self.state().restart();
    }

    /// The machine is gone: of everything not synced, any part may be lost. Old handles are dead.
    pub fn restart_after_power_loss(&self) {
        let mut state = self.state();
        state.lose_names();
        state.lose_pages();
        state.restart();
    }

    /// Flips one bit of a file, behind everybody's back.
    ///
    /// # Panics
    /// When the file does not exist or is shorter.
    pub fn flip_bit(&self, path: &Path, at: usize) {
        let mut state = self.state();
        let inode = state.names[path];
        let inode = state.inodes.get_mut(&inode).expect("a name leads to an inode");
        inode.content[at] ^= 1;
        inode.durable = inode.content.clone();
    }

    /// All files, sorted by path.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no operation of the simulated disk panics")
    }

    fn handle(&self, state: &State, inode: u64) -> Box<dyn File> {
        Box::new(Handle { disk: self.clone(), inode, process: state.process })
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.content.len() as u64).sum()
    }

    /// Every operation begins here. `Err` when the process is dead, `Ok(true)` when it dies in this very operation,
    /// of which then any part may happen.
    fn begin(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(killed());
        }
        self.operations += 1;
        self.dead = self.faults.kill_at == Some(self.operations);
        Ok(self.dead)
    }

    /// For operations that happen wholly or not at all.
    fn begin_atomic(&mut self) -> io::Result<bool> {
        let dying = self.begin()?;
        if dying && self.chance.coin() { Err(killed()) } else { Ok(dying) }
    }

    fn take_time(&mut self) {
        if self.sync_ms_max > 0 {
            self.elapsed_ms += self.chance.below(self.sync_ms_max);
        }
    }

    fn restart(&mut self) {
        self.dead = false;
        self.process += 1;
        self.operations = 0;
        self.syncs = 0;
        self.faults = Faults::default();
        self.drop_unreachable();
    }

    fn drop_unreachable(&mut self) {
        let reachable: BTreeSet<u64> =
            self.names.values().chain(self.durable_names.values()).copied().collect();
        self.inodes.retain(|inode, _| reachable.contains(inode));
    }

    /// Of each folder's pending changes a prefix reaches the disk: a journal keeps their order.
    fn lose_names(&mut self) {
        for (_, changes) in std::mem::take(&mut self.pending_names) {
            let kept = self.chance.below(changes.len() as u64 + 1) as usize;
            for change in changes.into_iter().take(kept) {
                change.apply(&mut self.durable_names);
            }
        }
        self.names = self.durable_names.clone();
    }

    /// Of each file's dirty pages any subset reaches the disk, and its length may be the old one or the new one.
    fn lose_pages(&mut self) {
        let State { inodes, chance, .. } = self;
        for inode in inodes.values_mut() {
            let dirty = std::mem::take(&mut inode.dirty);
            let kept: BTreeSet<usize> = dirty.into_iter().filter(|_| chance.coin()).collect();
            if inode.content.len() != inode.durable.len() && chance.coin() {
                inode.durable.resize(inode.content.len(), 0);
            }
            inode.keep(&kept);
            inode.content = inode.durable.clone();
        }
    }

    fn change_name(&mut self, dir: &Path, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.entry(dir.to_owned()).or_default().push(change);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            NameChange::Add(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Replace { from, to, inode } => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }
}

impl Inode {
    /// Copies these pages to the durable side, as far as they lie within its length.
    fn keep(&mut self, pages: &BTreeSet<usize>) {
        for page in pages {
            let from = page * PAGE_BYTES;
            let to = (from + PAGE_BYTES).min(self.content.len()).min(self.durable.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.content[from..to]);
            }
        }
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let mut state = self.state();
        state.begin_atomic()?;
        let dir = dir_of(path)?;
        state.expect_dir(&dir)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(
            inode,
            Inode { content: Vec::new(), durable: Vec::new(), dirty: BTreeSet::new() },
        );
        state.change_name(&dir, NameChange::Add(path.to_owned(), inode));
        if state.dead { Err(killed()) } else { Ok(self.handle(&state, inode)) }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.open_read(path)
    }

    fn open_read(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let state = self.state();
        if state.dead {
            return Err(killed());
        }
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(&state, inode))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.dead {
            return Err(killed());
        }
        state.expect_dir(dir)?;
        let children =
            state.names.keys().chain(&state.dirs).filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> =
            children.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Folders are durable at once: the real one fsyncs each parent.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dead {
            return Err(killed());
        }
        for ancestor in dir.ancestors() {
            state.dirs.insert(ancestor.to_owned());
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_atomic()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let dir = dir_of(to)?;
        state.expect_dir(&dir)?;
        state.change_name(&dir, NameChange::Add(to.to_owned(), inode));
        if state.dead { Err(killed()) } else { Ok(()) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_atomic()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let dir = dir_of(to)?;
        state.expect_dir(&dir)?;
        state.change_name(
            &dir,
            NameChange::Replace { from: from.to_owned(), to: to.to_owned(), inode },
        );
        if state.dead { Err(killed()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_atomic()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = dir_of(path)?;
        state.change_name(&dir, NameChange::Remove(path.to_owned()));
        if state.dead { Err(killed()) } else { Ok(()) }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.begin()? {
            return Err(killed());
        }
        state.expect_dir(dir)?;
        for change in state.pending_names.remove(dir).unwrap_or_default() {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn space(&self, _dir: &Path) -> io::Result<Space> {
        let state = self.state();
        let available_bytes = state.capacity_bytes.saturating_sub(state.used_bytes());
        Ok(Space { total_bytes: state.capacity_bytes, available_bytes })
    }
}

impl State {
    fn expect_dir(&self, dir: &Path) -> io::Result<()> {
        if self.dirs.contains(dir) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no folder {}", dir.display())))
    }
}

struct Handle {
    disk: Disk,
    inode: u64,
    process: u64,
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.dead || state.process != self.process {
            return Err(killed());
        }
        act(&mut state)
    }
}

impl File for Handle {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        self.with(|state| {
            let inode = state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let from = (at as usize).min(inode.content.len());
            let count = into.len().min(inode.content.len() - from);
            into[..count].copy_from_slice(&inode.content[from..from + count]);
            Ok(count)
        })
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.with(|state| {
            let dying = state.begin()?;
            let room = state.capacity_bytes.saturating_sub(state.used_bytes());
            let inode = state.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let at = at as usize;
            let growth = (at + bytes.len()).saturating_sub(inode.content.len()) as u64;
            let full = growth > room;
            let mut count = bytes.len();
            if full {
                count = count.saturating_sub((growth - room) as usize);
            }
            if dying {
                count = state.chance.below(count as u64 + 1) as usize;
            }
            if count > 0 {
                if inode.content.len() < at + count {
                    inode.content.resize(at + count, 0);
                }
                inode.content[at..at + count].copy_from_slice(&bytes[..count]);
                inode.dirty.extend(at / PAGE_BYTES..=(at + count - 1) / PAGE_BYTES);
            }
            match (dying, full) {
                (true, _) => Err(killed()),
                (false, true) => Err(io::ErrorKind::StorageFull.into()),
                (false, false) => Ok(()),
            }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            let dying = state.begin()?;
            state.take_time();
            state.syncs += 1;
            let fails = state.faults.fail_sync_at == Some(state.syncs);
            let State { inodes, chance, .. } = state;
            let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            let mut written = inode.dirty.clone();
            if dying || fails {
                // Any part may have been written.
                written.retain(|_| chance.coin());
            }
            if !dying {
                // After a failure too: the system calls the pages clean, and no later sync will write them. Only the
                // pages of a process that died meanwhile are still to be written.
                inode.dirty.clear();
            }
            if !(dying || fails) || chance.coin() {
                inode.durable.resize(inode.content.len(), 0);
            }
            inode.keep(&written);
            match (dying, fails) {
                (true, _) => Err(killed()),
                (false, true) => Err(io::Error::other("simulated failure of an fsync")),
                (false, false) => Ok(()),
            }
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| {
            let inode = state.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?;
            Ok(inode.content.len() as u64)
        })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} files)", self.state().names.len())
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.inode)
    }
}

fn killed() -> io::Error {
    io::Error::other("the simulated process was killed")
}

fn dir_of(path: &Path) -> io::Result<PathBuf> {
    path.parent().map(Path::to_owned).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(disk: &Disk, sync: bool, sync_dir: bool) {
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        file.write_all_at(&[7; 5000], 0).unwrap();
        if sync {
            file.sync().unwrap();
        }
        if sync_dir {
            disk.sync_dir(Path::new("/d")).unwrap();
        }
    }

    #[test]
    fn what_was_synced_survives_every_power_loss() {
        for seed in 0..50 {
            let disk = Disk::new(seed, 1 << 20);
            written(&disk, true, true);
            disk.restart_after_power_loss();
            assert_eq!(disk.read(Path::new("/d/f")).unwrap(), [7; 5000]);
        }
    }

    #[test]
    fn a_name_without_a_folder_sync_is_sometimes_lost_and_content_without_a_sync_sometimes_torn() {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..50 {
            let disk = Disk::new(seed, 1 << 20);
            written(&disk, true, false);
            disk.restart_after_power_loss();
            lost += u32::from(disk.read(Path::new("/d/f")).is_err());
            let disk = Disk::new(seed, 1 << 20);
            written(&disk, false, true);
            disk.restart_after_power_loss();
            torn += u32::from(disk.read(Path::new("/d/f")).unwrap() != [7; 5000]);
        }
        assert!(lost > 5 && torn > 40, "{lost} {torn}");
    }

    #[test]
    fn a_kill_keeps_what_was_written_and_ends_all_handles() {
        let disk = Disk::new(1, 1 << 20);
        written(&disk, false, false);
        let old = disk.open(Path::new("/d/f")).unwrap();
        disk.restart_after_kill();
        assert!(old.write_all_at(&[1], 0).is_err());
        assert_eq!(disk.read(Path::new("/d/f")).unwrap(), [7; 5000]);
    }

    #[test]
    fn pages_of_a_failed_sync_are_not_made_durable_by_the_next_one() {
        let mut in_doubt = 0;
        for seed in 0..50 {
            let disk = Disk::new(seed, 1 << 20);
            written(&disk, true, true);
            let file = disk.open(Path::new("/d/f")).unwrap();
            disk.set_faults(Faults { fail_sync_at: Some(2), ..Faults::default() });
            file.write_all_at(&[8; 5000], 0).unwrap();
            assert!(file.sync().is_err());
            file.sync().unwrap();
            disk.restart_after_power_loss();
            in_doubt += u32::from(disk.read(Path::new("/d/f")).unwrap() != [8; 5000]);
        }
        assert!(in_doubt > 40, "{in_doubt}");
    }

    #[test]
    fn a_slow_disk_takes_time_for_a_sync_and_for_nothing_else() {
        let disk = Disk::new(1, 1 << 20);
        written(&disk, true, true);
        assert_eq!(disk.elapsed_ms(), 0);
        disk.set_sync_ms_max(1000);
        let file = disk.open(Path::new("/d/f")).unwrap();
        file.write_all_at(&[1; 5000], 0).unwrap();
        assert_eq!(disk.elapsed_ms(), 0);
        (0..20).for_each(|_| file.sync().unwrap());
        assert!((1000..20_000).contains(&disk.elapsed_ms()), "{}", disk.elapsed_ms());
    }

    #[test]
    fn a_full_disk_takes_a_part_and_says_so() {
        let disk = Disk::new(1, 100);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let file = disk.create(Path::new("/d/f")).unwrap();
        assert_eq!(file.write_all_at(&[1; 101], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.space(Path::new("/d")).unwrap().available_bytes, 0);
    }
}
