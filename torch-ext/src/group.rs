//! Processes that compute together: Gloo for tensors on the CPU, NCCL for those on GPUs.
//!
//! They find each other through libtorch's `TCPStore`, which the first one serves. All call the same
//! functions in the same order, with tensors of the same shapes and kinds. Neither the store nor Gloo nor
//! NCCL asks who is there: whoever reaches their ports can take part, as with `torchrun`. On one host they
//! listen on loopback alone.
use crate::{Error, ffi, memory};
use std::ffi::{CString, c_void};
use std::net::TcpListener;
use std::os::fd::IntoRawFd;
use std::time::Duration;
use tch::{Device, Tensor};

/// Where the processes of a group find each other.
#[derive(Debug)]
pub struct Meeting {
    /// Name or address of the host where the first rank listens.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The socket that the first rank listens on, bound already; without it the first rank listens at
    /// `port` on every address of its host.
    pub listener: Option<TcpListener>,
    /// Somebody else listens there, as `torchrun` does.
    pub hosted: bool,
    /// Sets this group apart from others that meet at the same place.
    pub name: String,
    /// How long to wait for the others.
    pub patience: Duration,
}

/// The place where the members of a group find each other, reached.
#[derive(Debug)]
pub struct Store {
    raw: *mut c_void,
    patience: Duration,
}

impl Meeting {
    /// Listens at the place, if `serves`, or reaches it.
    ///
    /// # Errors
    /// When it is not reached in time, or this process cannot listen there.
    pub fn open(self, serves: bool) -> Result<Store, Error> {
        let (host, name) = (text(&self.host)?, text(&self.name)?);
        let listener = self.listener.map_or(-1, IntoRawFd::into_raw_fd);
        let mut raw = std::ptr::null_mut();
        // SAFETY: strings that live over the call; the socket is handed over; on success `raw` is a new store,
        // owned by nobody else.
        ffi::check(unsafe {
            ffi::palette_store_open(
                host.as_ptr(),
                self.port,
                serves && !self.hosted,
                listener,
                name.as_ptr(),
                milliseconds(self.patience),
                &raw mut raw,
            )
        })?;
        Ok(Store { raw, patience: self.patience })
    }
}

impl Store {
    /// Adds to a number that all who meet share and that begins at 0; the sum.
    ///
    /// # Errors
    /// When the place is gone.
    pub fn add(&self, key: &str, more: i64) -> Result<i64, Error> {
        let key = text(key)?;
        let mut sum = 0;
        // SAFETY: the store lives as long as `self`, the string over the call.
        ffi::check(unsafe { ffi::palette_store_add(self.raw, key.as_ptr(), more, &raw mut sum) })?;
        Ok(sum)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `palette_store_open` and freed exactly once; a group has a reference of its own.
        unsafe { ffi::palette_store_free(self.raw) };
    }
}

/// Which member of a group this process is.
#[derive(Debug, Clone)]
pub struct Member {
    /// From 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Where its tensors are: the CPU, or one GPU that no other member has.
    pub device: Device,
    /// Of the CPU: the network interface to speak over, such as `eth0`.
    pub interface: Option<String>,
    /// Of the CPU, without an interface: the own address or name to listen at; else that of the host's name.
    pub address: Option<String>,
    /// How long an operation may stand still before it is an error.
    pub limit: Duration,
}

impl Member {
    fn check(&self) -> Result<(), Error> {
        if self.size > 0 && self.rank < self.size {
            return Ok(());
        }
        Err(Error::Mismatch(format!(
            "rank {} of {} ranks: a rank is from 0 to one less than their number",
            self.rank, self.size
        )))
    }
}

/// The group that a process joined.
#[derive(Debug)]
pub struct Group {
    raw: *mut c_void,
    member: Member,
}

// SAFETY: the C++ side keeps no thread-local state; it is used by one thread at a time.
unsafe impl Send for Group {}

/// An operation that is queued. Dropping it waits for nothing.
#[derive(Debug)]
#[must_use = "the result is there only after `wait`"]
pub struct Pending {
    raw: *mut c_void,
    /// Written or read until then.
    _tensors: Vec<Tensor>,
}

impl Group {
    /// Meets the others and joins; returns when all are there.
    ///
    /// # Errors
    /// As [`Meeting::open`] and [`Self::at`].
    pub fn join(meeting: Meeting, member: Member) -> Result<Group, Error> {
        member.check()?;
        let serves = member.rank == 0;
        Self::at(&meeting.open(serves)?, member)
    }

    /// Joins those who meet there; returns when all are there.
    ///
    /// # Errors
    /// When they do not come in time, or a rank, size, device, address or interface cannot be.
    pub fn at(store: &Store, member: Member) -> Result<Group, Error> {
        member.check()?;
        let number = |it: usize| {
            i32::try_from(it).map_err(|_| Error::Mismatch(format!("{it} ranks are too many")))
        };
        let index = match member.device {
            Device::Cuda(index) => memory::number(index)?,
            _ => -1,
        };
        let address = text(member.address.as_deref().unwrap_or_default())?;
        let interface = text(member.interface.as_deref().unwrap_or_default())?;
        let (rank, size) = (number(member.rank)?, number(member.size)?);
        let mut raw = std::ptr::null_mut();
        // SAFETY: the store and strings live over the call; on success `raw` is a new group, owned by nobody else.
        ffi::check(unsafe {
            ffi::palette_group_join(
                store.raw,
                rank,
                size,
                index,
                address.as_ptr(),
                interface.as_ptr(),
                milliseconds(store.patience),
                &raw mut raw,
            )
        })?;
        Ok(Group { raw, member })
    }

    /// Which member this is.
    pub fn member(&self) -> &Member {
        &self.member
    }

    pub(crate) fn raw(&self) -> *mut c_void {
        self.raw
    }

    /// Begins to add up a contiguous tensor over all ranks, in place. `limit` is how long that may stand
    /// still, here and below.
    ///
    /// # Errors
    /// When a rank is lost, or the tensor is no contiguous one.
    pub fn sum(&self, tensor: &Tensor, limit: Duration) -> Result<Pending, Error> {
        // SAFETY: group and tensor live over the call; the operation holds the tensor's memory.
        self.queued(vec![tensor.shallow_clone()], |work| unsafe {
            ffi::palette_group_sum(self.raw, tensor.as_ptr(), milliseconds(limit), work)
        })
    }

    /// Begins to give every rank the contiguous tensor of rank `root`, in place.
    ///
    /// # Errors
    /// As [`Self::sum`].
    pub fn broadcast(
        &self,
        tensor: &Tensor,
        root: usize,
        limit: Duration,
    ) -> Result<Pending, Error> {
        let root = i32::try_from(root).unwrap_or(i32::MAX);
        // SAFETY: as in `sum`.
        self.queued(vec![tensor.shallow_clone()], |work| unsafe {
            ffi::palette_group_broadcast(self.raw, tensor.as_ptr(), root, milliseconds(limit), work)
        })
    }

    /// Begins to send the i-th of as many equal parts of `from` as there are ranks to rank i; `to`, of the
    /// same size, gets the parts that the ranks sent here, in their order.
    ///
    /// # Errors
    /// As [`Self::sum`], and when the tensors are not of one size that the number of ranks divides.
    pub fn exchange(&self, to: &Tensor, from: &Tensor, limit: Duration) -> Result<Pending, Error> {
        let (there, here) = (to.numel(), from.numel());
        if there != here || !here.is_multiple_of(self.member.size) {
            return Err(Error::Mismatch(format!(
                "{here} numbers in {there}: {} ranks cannot exchange them in equal parts",
                self.member.size
            )));
        }
        // SAFETY: as in `sum`; the sizes are what the operation expects.
        self.queued(vec![to.shallow_clone(), from.shallow_clone()], |work| unsafe {
            ffi::palette_group_exchange(
                self.raw,
                to.as_ptr(),
                from.as_ptr(),
                milliseconds(limit),
                work,
            )
        })
    }

    /// Begins to fill `to` with what every rank gives in `from`, in the order of the ranks.
    ///
    /// # Errors
    /// As [`Self::sum`], and when `to` is not as many times as large as there are ranks.
    pub fn gather(&self, to: &Tensor, from: &Tensor, limit: Duration) -> Result<Pending, Error> {
        let (there, here) = (to.numel(), from.numel());
        if there != here * self.member.size {
            return Err(Error::Mismatch(format!(
                "{here} numbers of each of {} ranks do not fill {there}",
                self.member.size
            )));
        }
        // SAFETY: as in `sum`; the sizes are what the operation expects.
        self.queued(vec![to.shallow_clone(), from.shallow_clone()], |work| unsafe {
            ffi::palette_group_gather(
                self.raw,
                to.as_ptr(),
                from.as_ptr(),
                milliseconds(limit),
                work,
            )
        })
    }

    fn queued(
        &self,
        tensors: Vec<Tensor>,
        call: impl FnOnce(*mut *mut c_void) -> *mut std::ffi::c_char,
    ) -> Result<Pending, Error> {
        let mut raw = std::ptr::null_mut();
        ffi::check(call(&raw mut raw))?;
        Ok(Pending { raw, _tensors: tensors })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `palette_group_join` and freed exactly once.
        unsafe { ffi::palette_group_free(self.raw) };
    }
}

impl Pending {
    /// Waits for the result: on the CPU until it is there; on a GPU everything that is queued from here on
    /// comes after it, and nobody waits.
    ///
    /// # Errors
    /// When a rank is lost, or the operation stood still for too long.
    pub fn wait(self) -> Result<(), Error> {
        // SAFETY: the operation lives as long as `self`.
        ffi::check(unsafe { ffi::palette_group_wait(self.raw) })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: the pointer is from the C++ side and freed exactly once.
        unsafe { ffi::palette_group_work_free(self.raw) };
    }
}

fn text(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Mismatch("a name with a NUL byte".to_owned()))
}

pub(crate) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
