//! The declarations of `cpp/` and the two conversions that every call needs. Nothing outside
//! this crate sees them.
use crate::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use tch::Tensor;
use torch_sys::C_tensor;

/// As the C++ side takes a list of tensors: pointers to `torch::Tensor`, which it never frees.
pub(crate) type Pointers = Vec<*const C_tensor>;

unsafe extern "C" {
    fn palette_free(message: *mut c_char);
    fn palette_libtorch_version() -> *const c_char;
    pub(crate) fn palette_fill_keyed(
        out: *const C_tensor,
        keys: *const u64,
        count: usize,
        distribution: c_int,
    ) -> *mut c_char;
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn palette_fused_adam(
        parameters: *const *const C_tensor,
        first: *const *const C_tensor,
        second: *const *const C_tensor,
        count: usize,
        step: *const C_tensor,
        lr: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        epsilon: f64,
    ) -> *mut c_char;
    pub(crate) fn palette_lerp(
        targets: *const *const C_tensor,
        sources: *const *const C_tensor,
        count: usize,
        weight: f64,
    ) -> *mut c_char;
    pub(crate) fn palette_gradient_norm(
        parameters: *const *const C_tensor,
        count: usize,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_scale_gradients(
        parameters: *const *const C_tensor,
        count: usize,
        factor: *const C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_drop_gradients(
        parameters: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn palette_set_gradients(
        parameters: *const *const C_tensor,
        gradients: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn palette_changed(tensors: *const *const C_tensor, count: usize) -> *mut c_char;
    pub(crate) fn palette_channels_last(
        tensor: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_set_channels_last(tensor: *const C_tensor) -> *mut c_char;
    pub(crate) fn palette_device_memory(
        index: c_int,
        used: *mut u64,
        peak: *mut u64,
    ) -> *mut c_char;
    pub(crate) fn palette_device_free_memory(
        index: c_int,
        free: *mut u64,
        held: *mut u64,
    ) -> *mut c_char;
    pub(crate) fn palette_device_reserved(
        index: c_int,
        peak: *mut u64,
        in_use: *mut u64,
    ) -> *mut c_char;
    pub(crate) fn palette_device_reset_peak(index: c_int) -> *mut c_char;
    pub(crate) fn palette_device_release() -> *mut c_char;
    pub(crate) fn palette_on_host(
        parts: *const *const u8,
        sizes: *const usize,
        count: usize,
        pinned: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_upload(
        host: *const C_tensor,
        index: c_int,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_download(
        tensor: *const C_tensor,
        out: *mut *mut C_tensor,
        event: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_event_passed(event: *const c_void, passed: *mut bool) -> *mut c_char;
    pub(crate) fn palette_event_wait(event: *const c_void) -> *mut c_char;
    pub(crate) fn palette_event_free(event: *mut c_void);
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn palette_norm(
        x: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        scale: *const C_tensor,
        shift: *const C_tensor,
        added: *const C_tensor,
        groups: i64,
        epsilon: f64,
        silu: bool,
        blocks: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_add(
        x: *const C_tensor,
        h: *const C_tensor,
        bias: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_resample(
        x: *const C_tensor,
        halve: bool,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_copy_of(
        weight: *const C_tensor,
        copy: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_wide_product(
        a: *const C_tensor,
        b: *const C_tensor,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_set_numerics(tf32: bool, deterministic: bool) -> *mut c_char;
    pub(crate) fn palette_numerics(
        tf32: *mut bool,
        deterministic: *mut bool,
        measured: *mut bool,
    ) -> *mut c_char;
    pub(crate) fn palette_segment(
        data: *mut c_void,
        call: Call,
        drop: unsafe extern "C" fn(*mut c_void),
        inputs: *const *const C_tensor,
        count: usize,
        out: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn palette_store_open(
        host: *const c_char,
        port: u16,
        serves: bool,
        listener: c_int,
        name: *const c_char,
        meet_ms: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_store_free(store: *mut c_void);
    pub(crate) fn palette_store_add(
        store: *mut c_void,
        key: *const c_char,
        more: i64,
        out: *mut i64,
    ) -> *mut c_char;
    pub(crate) fn palette_group_join(
        store: *mut c_void,
        rank: c_int,
        size: c_int,
        index: c_int,
        address: *const c_char,
        interface: *const c_char,
        meet_ms: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_group_free(group: *mut c_void);
    pub(crate) fn palette_group_sum(
        group: *mut c_void,
        tensor: *const C_tensor,
        limit_ms: i64,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_group_broadcast(
        group: *mut c_void,
        tensor: *const C_tensor,
        root: c_int,
        limit_ms: i64,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_group_exchange(
        group: *mut c_void,
        to: *const C_tensor,
        from: *const C_tensor,
        limit_ms: i64,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_group_gather(
        group: *mut c_void,
        to: *const C_tensor,
        from: *const C_tensor,
        limit_ms: i64,
        work: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_group_wait(work: *mut c_void) -> *mut c_char;
    pub(crate) fn palette_group_work_free(work: *mut c_void);
    pub(crate) fn palette_buckets_new(
        group: *mut c_void,
        parameters: *const *const C_tensor,
        places: *const usize,
        count: usize,
        buckets: usize,
        limit_ms: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    pub(crate) fn palette_buckets_free(buckets: *mut c_void);
    pub(crate) fn palette_buckets_open(
        buckets: *mut c_void,
        spans: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
    pub(crate) fn palette_buckets_finish(
        buckets: *mut c_void,
        spans: *const *const C_tensor,
        count: usize,
    ) -> *mut c_char;
}

/// A closure as the C++ side calls it: its data, the inputs and their number, the result.
pub(crate) type Call = unsafe extern "C" fn(
    *mut c_void,
    *const *mut C_tensor,
    usize,
    *mut *mut C_tensor,
) -> *mut c_char;

/// The version of libtorch, as its own headers name it.
pub(crate) fn version() -> &'static str {
    // SAFETY: the C++ side returns a NUL-terminated string constant.
    let text = unsafe { CStr::from_ptr(palette_libtorch_version()) };
    text.to_str().unwrap_or("unknown")
}

/// The pointers of a list; valid as long as the list is borrowed.
pub(crate) fn pointers<T: AsRef<Tensor>>(tensors: &[T]) -> Pointers {
    tensors.iter().map(|tensor| tensor.as_ref().as_ptr()).collect()
}

/// A message for the C++ side, which frees it.
pub(crate) fn message(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    // SAFETY: a NUL-terminated string that outlives the call; `strdup` copies it.
    unsafe { libc::strdup(text.as_ptr()) }
}

/// Turns the C++ side's answer (null, or a message that we own) into a result.
pub(crate) fn check(message: *mut c_char) -> Result<(), Error> {
    if message.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null answer is a NUL-terminated string from `strdup`, ours until freed here.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy().into_owned();
    // SAFETY: as above; it is freed exactly once, by the allocator that made it.
    unsafe { palette_free(message) };
    Err(Error::Torch(crate::one_line(&text)))
}

/// Runs a call that hands back one new tensor.
pub(crate) fn returned(
    call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char,
) -> Result<Tensor, Error> {
    maybe_returned(call)?.ok_or_else(|| Error::Torch("no tensor was returned".to_owned()))
}

/// Runs a call that hands back one new tensor, or none.
pub(crate) fn maybe_returned(
    call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char,
) -> Result<Option<Tensor>, Error> {
    let mut out: *mut C_tensor = std::ptr::null_mut();
    check(call(&mut out))?;
    // SAFETY: on success `out` is null or a `new at::Tensor`, owned by nobody else.
    Ok((!out.is_null()).then(|| unsafe { Tensor::from_ptr(out) }))
}
