//! libjpeg's decompressor, its source of bytes and its ways to complain.
//!
//! libjpeg tells an error by calling `error_exit`, which must not return: ours unwinds, through C code
//! that mozjpeg-sys builds for that, and every call here is caught. A decompressor that has failed is
//! never called again but to be destroyed, which libjpeg allows in any state.

use std::any::Any;
use std::ffi::{c_int, c_long};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mozjpeg_sys as sys;
use sys::{boolean, jpeg_common_struct, jpeg_decompress_struct, jpeg_error_mgr, jpeg_source_mgr};

use crate::{Error, Pixels, Rectangle};

/// A decompressor that has read its header.
pub(crate) struct Raw<'a> {
    decompressor: Box<jpeg_decompress_struct>,
    // C keeps the addresses of both, so that they are plain pointers, made by boxes and freed at last.
    errors: *mut jpeg_error_mgr,
    source: *mut jpeg_source_mgr,
    file: PhantomData<&'a [u8]>,
}

impl<'a> Raw<'a> {
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, Error> {
        // SAFETY: both are plain C structures for which zeros are a valid value.
        let (mut errors, decompressor): (Box<jpeg_error_mgr>, Box<jpeg_decompress_struct>) =
            unsafe { (Box::new(std::mem::zeroed()), Box::new(std::mem::zeroed())) };
        // SAFETY: the structure outlives the call.
        unsafe { sys::jpeg_std_error(&mut errors) };
        errors.error_exit = Some(fail);
        errors.emit_message = Some(count);
        let source = Box::new(jpeg_source_mgr {
            next_input_byte: file.as_ptr(),
            bytes_in_buffer: file.len(),
            init_source: Some(nothing),
            fill_input_buffer: Some(ended),
            skip_input_data: Some(skip),
            resync_to_restart: Some(sys::jpeg_resync_to_restart),
            term_source: Some(nothing),
        });
        let (errors, source) = (Box::into_raw(errors), Box::into_raw(source));
        let mut raw = Self { decompressor, errors, source, file: PhantomData };
        raw.decompressor.common.err = errors;
        // SAFETY: the error handler is in place, as libjpeg asks.
        caught(|| unsafe { sys::jpeg_create_decompress(&mut *raw.decompressor) })?;
        raw.decompressor.src = source;
        // SAFETY: the decompressor was created, its source lasts as long as `raw`.
        caught(|| unsafe { sys::jpeg_read_header(&mut raw.decompressor, 1) })?;
        Ok(raw)
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.decompressor.image_width, self.decompressor.image_height)
    }

    pub(crate) fn is_grey_or_ycbcr(&self) -> bool {
        use sys::J_COLOR_SPACE::{JCS_GRAYSCALE, JCS_YCbCr};
        matches!(self.decompressor.jpeg_color_space, JCS_GRAYSCALE | JCS_YCbCr)
    }

    pub(crate) fn scale(&mut self, eighths: u8) {
        self.decompressor.scale_num = eighths.into();
        self.decompressor.scale_denom = 8;
    }

    pub(crate) fn rgb(
        mut self,
        choose: impl FnOnce(u32, u32) -> Rectangle,
    ) -> Result<Pixels, Error> {
        let decompressor = &mut *self.decompressor;
        decompressor.out_color_space = sys::J_COLOR_SPACE::JCS_RGB;
        // SAFETY: the header was read and the source cannot suspend, so that this runs to its end.
        caught(|| unsafe { sys::jpeg_start_decompress(decompressor) })?;
        let whole = (decompressor.output_width, decompressor.output_height);
        let asked = choose(whole.0, whole.1);
        let inside = |from: u32, length: u32, side: u32| {
            length > 0 && from.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(asked.left, asked.width, whole.0) || !inside(asked.top, asked.height, whole.1) {
            let (width, height) = whole;
            return Err(Error(format!("{asked:?} is not inside of {width}x{height} pixels")));
        }
        let (left, width) = self.crop(asked, whole.0)?;
        let decompressor = &mut *self.decompressor;
        let row = 3 * width as usize;
        let mut above = vec![0; row];
        let mut rgb = Vec::with_capacity(row * asked.height as usize);
        caught(|| {
            for line in 0..asked.top + asked.height {
                let mut to: *mut u8 = match line < asked.top {
                    true => above.as_mut_ptr(),
                    false => rgb.spare_capacity_mut().as_mut_ptr().cast(),
                };
                // SAFETY: `to` has room for one row of the cropped width, by the capacity above, and
                // libjpeg writes exactly such a row where it says that it has read one.
                let read = unsafe { sys::jpeg_read_scanlines(decompressor, &mut to, 1) };
                if read != 1 {
                    resume_unwind(Box::new("libjpeg gave no row".to_owned()));
                }
                if line >= asked.top {
                    // SAFETY: the row was written just now.
                    unsafe { rgb.set_len(rgb.len() + row) };
                }
            }
        })?;
        let part = Rectangle { left, top: asked.top, width, height: asked.height };
        Ok(Pixels { part, rgb, mended: self.warnings() > 0 })
    }

    /// Keeps to the columns of a part; gives the first column and their number. One block more on
    /// either side, so that chroma is smoothed across the part's edges as in the whole.
    fn crop(&mut self, part: Rectangle, whole: u32) -> Result<(u32, u32), Error> {
        // Blocks of 8 pixels, at most fourfold subsampled.
        const MARGIN: u32 = 32;
        let mut left = part.left.saturating_sub(MARGIN);
        let mut width = (part.left + part.width + MARGIN).min(whole) - left;
        if width < whole {
            // SAFETY: decompression was started and no row was read; the span lies in the image.
            caught(|| unsafe {
                sys::jpeg_crop_scanline(&mut self.decompressor, &mut left, &mut width);
            })?;
        }
        // What is written to memory has the width that libjpeg has settled for.
        Ok((left, self.decompressor.output_width))
    }

    fn warnings(&self) -> c_long {
        // SAFETY: the handler lives as long as `self`, and no call of libjpeg is under way.
        unsafe { (*self.errors).num_warnings }
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // SAFETY: destroying is allowed in any state, also where creating it failed, since then it has no
        // memory yet. It does not fail; if it did, its memory would be lost and nothing else.
        let _ = caught(|| unsafe { sys::jpeg_destroy_decompress(&mut self.decompressor) });
        // SAFETY: both came from boxes, and C, which knew of them, is gone.
        unsafe {
            drop(Box::from_raw(self.errors));
            drop(Box::from_raw(self.source));
        }
    }
}

/// Runs code that may unwind with libjpeg's message.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Error> {
    let text = |cause: Box<dyn Any + Send>| match cause.downcast::<String>() {
        Ok(message) => Error(*message),
        Err(_) => Error("libjpeg failed".into()),
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(text)
}

/// libjpeg's message of an error, as an unwinding that prints nothing.
unsafe extern "C-unwind" fn fail(common: &mut jpeg_common_struct) {
    /// As C declares it; the binding takes the buffer for one that is only read.
    type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &mut [u8; 80]);
    type Bound = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]);
    let mut buffer = [0u8; 80];
    // SAFETY: libjpeg calls with its own structure, whose handler is the one made in `open`; the two
    // function types differ in what Rust may assume of the buffer alone.
    unsafe {
        if let Some(format) = (*common.err).format_message {
            std::mem::transmute::<Bound, Format>(format)(common, &mut buffer);
        }
    }
    let message = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    resume_unwind(Box::new(String::from_utf8_lossy(message).into_owned()));
}

/// Counts warnings (below 0) and prints nothing.
unsafe extern "C-unwind" fn count(common: &mut jpeg_common_struct, level: c_int) {
    if level < 0 {
        // SAFETY: as in `fail`.
        unsafe { (*common.err).num_warnings += 1 };
    }
}

unsafe extern "C-unwind" fn nothing(_: &mut jpeg_decompress_struct) {}

/// All bytes were given; libjpeg's own sources go on with an invented end, and the image with grey.
unsafe extern "C-unwind" fn ended(_: &mut jpeg_decompress_struct) -> boolean {
    resume_unwind(Box::new("the file ends early".to_owned()))
}

unsafe extern "C-unwind" fn skip(decompressor: &mut jpeg_decompress_struct, count: c_long) {
    // SAFETY: the source is the one made in `open`; the pointer stays within the file or at its end.
    unsafe {
        let source = &mut *decompressor.src;
        let count = usize::try_from(count).unwrap_or(0).min(source.bytes_in_buffer);
        source.next_input_byte = source.next_input_byte.add(count);
        source.bytes_in_buffer -= count;
    }
}
