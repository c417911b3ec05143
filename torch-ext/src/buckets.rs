//! Gradients that are added up over the ranks while the backward pass still computes others.
use crate::group::{Group, milliseconds};
use crate::{Error, ffi};
use std::ffi::c_void;
use tch::Tensor;

/// Watches the gradients of parameters, which lie in buckets. A bucket's sum over the ranks begins when all its
/// gradients are there and the sums of the buckets before it have begun, but for the last bucket's, which
/// [`Self::finish`] begins. All ranks have the same buckets.
#[derive(Debug)]
pub struct Buckets<'g> {
    raw: *mut c_void,
    /// The C++ side has its address.
    _group: &'g Group,
}

impl<'g> Buckets<'g> {
    /// The i-th parameter's gradient lies in bucket `places[i]` of `count`. A parameter is watched for one
    /// `Buckets`, the last that was made of it.
    ///
    /// # Errors
    /// When there are not as many places as parameters, or one lies beyond `count`.
    pub fn new(
        group: &'g Group,
        parameters: &[Tensor],
        places: &[usize],
        count: usize,
    ) -> Result<Buckets<'g>, Error> {
        if places.len() != parameters.len() {
            return Err(Error::Mismatch(format!(
                "{} places of {} gradients",
                places.len(),
                parameters.len()
            )));
        }
        let list = ffi::pointers(parameters);
        let limit = milliseconds(group.member().limit);
        let mut raw = std::ptr::null_mut();
        // SAFETY: both lists have as many live entries; the group outlives the result; on success `raw` is a
        // new object, owned by nobody else.
        ffi::check(unsafe {
            ffi::palette_buckets_new(
                group.raw(),
                list.as_ptr(),
                places.as_ptr(),
                list.len(),
                count,
                limit,
                &raw mut raw,
            )
        })?;
        Ok(Buckets { raw, _group: group })
    }

    /// The next backward pass is the last one before the sum. It adds to gradients that lie in `spans`, the
    /// contiguous numbers of each bucket; until [`Self::finish`] no other operation of the group may begin.
    ///
    /// # Errors
    /// When there are not as many spans as buckets.
    pub fn open(&self, spans: &[Tensor]) -> Result<(), Error> {
        let list = ffi::pointers(spans);
        // SAFETY: live tensors, borrowed over the call; the C++ side keeps references of its own.
        ffi::check(unsafe { ffi::palette_buckets_open(self.raw, list.as_ptr(), list.len()) })
    }

    /// Begins the sums that have not begun, all of them where there was no [`Self::open`], and waits as
    /// [`crate::group::Pending::wait`] does. `spans` are those of `open`.
    ///
    /// # Errors
    /// When a rank is lost or stood still for too long, and as [`Self::open`].
    pub fn finish(&self, spans: &[Tensor]) -> Result<(), Error> {
        let list = ffi::pointers(spans);
        // SAFETY: as in `open`.
        ffi::check(unsafe { ffi::palette_buckets_finish(self.raw, list.as_ptr(), list.len()) })
    }
}

impl Drop for Buckets<'_> {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `palette_buckets_new` and freed exactly once.
        unsafe { ffi::palette_buckets_free(self.raw) };
    }
}
