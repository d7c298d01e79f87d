//! Putting a VM's files into its RAM, with errors that name the config's file, line and key.

use core::fmt;

use axaddrspace::GuestPhysAddr;
use axvmconfig::{Blob, ConfigError, keys};

use super::{
    ImageError,
    blob::{device_tree, load_blob},
    ram::{GuestRam, GuestRange, RamMap, Thing},
};
use crate::AxVMConfig;

/// A VM that is being loaded.
pub(crate) struct Loader<'a, I> {
    pub(crate) config: &'a AxVMConfig<I>,
    pub(crate) map: RamMap<'a>,
    pub(crate) memory: &'a mut dyn GuestRam,
}

/// The files besides the kernel.
#[derive(Clone, Copy, Default)]
pub(crate) struct Blobs {
    pub(crate) ramdisk: Option<GuestRange>,
    pub(crate) tree: Option<GuestRange>,
}

/// Who says where a file goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placed {
    ByConfig,
    ByUs,
}

impl Placed {
    const fn of(blob: &Blob) -> Self {
        match blob.load_addr {
            Some(_) => Self::ByConfig,
            None => Self::ByUs,
        }
    }
}

impl<'a, I> Loader<'a, I> {
    pub(crate) fn new(
        config: &'a AxVMConfig<I>,
        ram: &'a [GuestRange],
        memory: &'a mut dyn GuestRam,
    ) -> Self {
        Self {
            config,
            map: RamMap::new(ram),
            memory,
        }
    }

    /// Loads the kernel by `load`.
    pub(crate) fn kernel<T>(
        &mut self,
        load: impl FnOnce(&[u8], &mut RamMap<'a>, &mut dyn GuestRam) -> Result<T, ImageError>,
    ) -> Result<T, ConfigError> {
        let path = &self.config.vm.kernel.path;
        self.open(path)
            .and_then(|file| load(file, &mut self.map, self.memory))
            .map_err(|why| self.error(keys::KERNEL_PATH, path, why))
    }

    /// `entry`, if it is in RAM.
    pub(crate) fn check_entry(&self, entry: GuestPhysAddr) -> Result<GuestPhysAddr, ConfigError> {
        match self.map.room_from(entry) {
            0 => Err(self.config.vm.error(
                keys::ENTRY_POINT,
                format_args!("{entry:#x} is not within the VM's RAM (memory_regions)"),
            )),
            _ => Ok(entry),
        }
    }

    /// Loads what the config names besides the kernel. What has its address goes before what takes
    /// any: the latter must not be in the way.
    pub(crate) fn blobs(&mut self) -> Result<Blobs, ConfigError> {
        let kernel = &self.config.vm.kernel;
        let mut blobs = Blobs::default();
        for placed in [Placed::ByConfig, Placed::ByUs] {
            let due = |blob: &&Blob| Placed::of(blob) == placed;
            if let Some(blob) = kernel.ramdisk.as_ref().filter(due) {
                blobs.ramdisk = Some(self.blob(Thing::Ramdisk, keys::RAMDISK_PATH, blob)?);
            }
            if let Some(blob) = kernel.dtb.as_ref().filter(due) {
                blobs.tree = Some(self.blob(Thing::DeviceTree, keys::DTB_PATH, blob)?);
            }
        }
        Ok(blobs)
    }

    fn blob(&mut self, thing: Thing, key: &str, blob: &Blob) -> Result<GuestRange, ConfigError> {
        let bytes = self.open(&blob.path).and_then(|file| match thing {
            Thing::DeviceTree => device_tree(file),
            Thing::Kernel | Thing::Ramdisk | Thing::BootData | Thing::AcpiTables => Ok(file),
        });
        bytes
            .and_then(|bytes| load_blob(thing, bytes, blob.load_addr, &mut self.map, self.memory))
            .map_err(|why| self.error(key, &blob.path, why))
    }

    /// Writes something that no file is, at `addr` or else where there is room.
    pub(crate) fn write(
        &mut self,
        thing: Thing,
        bytes: &[u8],
        addr: Option<GuestPhysAddr>,
    ) -> Result<GuestRange, ConfigError> {
        load_blob(thing, bytes, addr, &mut self.map, self.memory).map_err(|why| {
            let rule = format_args!("{thing}: {why}");
            self.config.vm.error(keys::MEMORY_REGIONS, rule)
        })
    }

    fn open(&self, path: &str) -> Result<&'a [u8], ImageError> {
        self.config.images.open(path).ok_or(ImageError::Missing)
    }

    /// The error that the file at `path`, which `key` names, cannot be loaded.
    pub(crate) fn error(&self, key: &str, path: &str, why: impl fmt::Display) -> ConfigError {
        self.config.vm.error(key, format_args!("{path:?}: {why}"))
    }
}
