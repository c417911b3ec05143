//! libjpeg's decompressor, its source of bytes and its ways to complain.
//!
//! libjpeg tells an error by calling `error_exit`, which must not return: ours unwinds, through C code
//! that mozjpeg-sys builds for that, and every call here is caught. A decompressor that has failed is
//! never called again but to be destroyed, which libjpeg allows in any state.

use std::any::Any;
use std::ffi::{c_int, c_long, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use mozjpeg_sys as sys;
use sys::{
    boolean, jpeg_common_struct, jpeg_decompress_struct, jpeg_error_mgr, jpeg_progress_mgr,
    jpeg_source_mgr,
};

use crate::complaints::{Complaints, is_unsupported};
use crate::{Error, Kind, Pixels, Rectangle, Warning};

/// Scans that are read of any image, and pixels times scans beyond that: a few kilobytes can announce
/// thousands of scans of a large image, each of which takes as long as an image.
const SCANS: u64 = 50;
const SCANNED_PIXELS: u64 = 5_000_000_000;

/// A decompressor that has read its header.
pub(crate) struct Raw<'a> {
    decompressor: Box<jpeg_decompress_struct>,
    // C keeps the addresses of these, so that they are plain pointers, made by boxes and freed at last.
    errors: *mut jpeg_error_mgr,
    source: *mut jpeg_source_mgr,
    progress: *mut jpeg_progress_mgr,
    complaints: *mut Complaints,
    file: PhantomData<&'a [u8]>,
}

impl<'a> Raw<'a> {
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, Error> {
        // SAFETY: all are plain C structures for which zeros are a valid value.
        let (mut errors, decompressor, mut progress): (
            Box<jpeg_error_mgr>,
            Box<jpeg_decompress_struct>,
            Box<jpeg_progress_mgr>,
        ) = unsafe {
            (
                Box::new(std::mem::zeroed()),
                Box::new(std::mem::zeroed()),
                Box::new(std::mem::zeroed()),
            )
        };
        // SAFETY: the structure outlives the call.
        unsafe { sys::jpeg_std_error(&mut errors) };
        errors.error_exit = Some(fail);
        errors.emit_message = Some(warn);
        progress.progress_monitor = Some(count_scans);
        let source = Box::new(jpeg_source_mgr {
            next_input_byte: file.as_ptr(),
            bytes_in_buffer: file.len(),
            init_source: Some(nothing),
            fill_input_buffer: Some(ended),
            skip_input_data: Some(skip),
            resync_to_restart: Some(sys::jpeg_resync_to_restart),
            term_source: Some(nothing),
        });
        let mut raw = Self {
            decompressor,
            errors: Box::into_raw(errors),
            source: Box::into_raw(source),
            progress: Box::into_raw(progress),
            complaints: Box::into_raw(Box::default()),
            file: PhantomData,
        };
        raw.decompressor.common.err = raw.errors;
        raw.decompressor.common.client_data = raw.complaints.cast::<c_void>();
        // SAFETY: the error handler is in place, as libjpeg asks; it keeps `err` and `client_data`.
        caught(|| unsafe { sys::jpeg_create_decompress(&mut *raw.decompressor) })?;
        raw.decompressor.src = raw.source;
        raw.decompressor.common.progress = raw.progress;
        // SAFETY: the decompressor was created, its source lasts as long as `raw`.
        let read = caught(|| unsafe { sys::jpeg_read_header(&mut raw.decompressor, 1) });
        // SAFETY: made above, freed on drop; no call of libjpeg is under way.
        let complaints = unsafe { &mut *raw.complaints };
        complaints.past_header = true;
        if let Err(error) = read {
            // Without bytes libjpeg misses the image, and says so.
            return Err(complaints.end().map_or(error, Error::new));
        }
        raw.has_room_for_blocks(file.len() as u64)?;
        Ok(raw)
    }

    /// A block takes a bit at least: of a file too short for its size the rest is missing, and it is not
    /// worth the memory that it announces.
    fn has_room_for_blocks(&self, bytes: u64) -> Result<(), Error> {
        let components = usize::try_from(self.decompressor.num_components).unwrap_or(0);
        // SAFETY: once the header is read, `comp_info` points to an array of `num_components`.
        let components =
            unsafe { std::slice::from_raw_parts(self.decompressor.comp_info, components) };
        let blocks: u64 = components
            .iter()
            .map(|part| u64::from(part.width_in_blocks) * u64::from(part.height_in_blocks))
            .sum();
        if bytes.saturating_mul(8) < blocks {
            let (width, height) = self.size();
            let text = format!("{bytes} bytes are too few for {width}x{height} pixels");
            return Err(Error::new(text));
        }
        Ok(())
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.decompressor.image_width, self.decompressor.image_height)
    }

    pub(crate) fn scale(&mut self, eighths: u8) {
        self.decompressor.scale_num = eighths.into();
        self.decompressor.scale_denom = 8;
    }

    /// Decodes a part; with `to_the_end` what is behind the pixels is read too.
    pub(crate) fn rgb(
        mut self,
        choose: impl FnOnce(u32, u32) -> Rectangle,
        to_the_end: bool,
    ) -> Result<Pixels, Error> {
        use sys::J_COLOR_SPACE::{JCS_CMYK, JCS_RGB, JCS_YCCK};
        let decompressor = &mut *self.decompressor;
        let inks = matches!(decompressor.jpeg_color_space, JCS_CMYK | JCS_YCCK);
        decompressor.out_color_space = if inks { JCS_CMYK } else { JCS_RGB };
        // SAFETY: the header was read and the source cannot suspend, so that this runs to its end.
        caught(|| unsafe { sys::jpeg_start_decompress(decompressor) })?;
        let whole = (decompressor.output_width, decompressor.output_height);
        let asked = choose(whole.0, whole.1);
        let inside = |from: u32, length: u32, side: u32| {
            length > 0 && from.checked_add(length).is_some_and(|end| end <= side)
        };
        if !inside(asked.left, asked.width, whole.0) || !inside(asked.top, asked.height, whole.1) {
            let (width, height) = whole;
            return Err(Error::new(format!("{asked:?} is not inside of {width}x{height} pixels")));
        }
        let (left, width) = self.crop(asked, whole.0)?;
        let channels = if inks { 4 } else { 3 };
        let row = channels * width as usize;
        let decompressor = &mut *self.decompressor;
        // Rows above the part, and of inks before they are colours.
        let mut spare = vec![0; row];
        let length = 3 * width as usize * asked.height as usize;
        let mut rgb = Vec::new();
        if rgb.try_reserve_exact(length).is_err() {
            let text =
                format!("decoding needs {length} bytes of memory, more than this process can get");
            return Err(Error { text, unsupported: true });
        }
        caught(|| {
            for line in 0..asked.top + asked.height {
                let direct = !inks && line >= asked.top;
                let mut to: *mut u8 = match direct {
                    false => spare.as_mut_ptr(),
                    true => rgb.spare_capacity_mut().as_mut_ptr().cast(),
                };
                // SAFETY: `to` has room for one row of the cropped width, by the capacity above, and
                // libjpeg writes exactly such a row where it says that it has read one.
                let read = unsafe { sys::jpeg_read_scanlines(decompressor, &mut to, 1) };
                if read != 1 {
                    resume_unwind(Box::new(Error::new("libjpeg gave no row")));
                }
                if direct {
                    // SAFETY: the row was written just now.
                    unsafe { rgb.set_len(rgb.len() + row) };
                } else if line >= asked.top {
                    rgb.extend(spare.as_chunks().0.iter().flat_map(colours));
                }
            }
        })?;
        let (silent, precise) = (self.component_without_pixels(), self.is_precise());
        if to_the_end {
            let decompressor = &mut *self.decompressor;
            // SAFETY: all rows were read, the source cannot suspend.
            caught(|| unsafe { sys::jpeg_finish_decompress(decompressor) })?;
        }
        let part = Rectangle { left, top: asked.top, width, height: asked.height };
        // SAFETY: made in `open`, freed on drop; no call of libjpeg is under way.
        let complaints = unsafe { &*self.complaints };
        let mut warnings = complaints.warnings(silent.is_none() && precise);
        if let Some(component) = silent {
            let text = format!("no pixels for component {component}");
            warnings.push(Warning { kind: Kind::Damage, text });
        } else if !precise && complaints.end().is_none() {
            let text = "progressive scans end before full precision".to_owned();
            warnings.push(Warning { kind: Kind::Remark, text });
        }
        Ok(Pixels { part, rgb, warnings })
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

    /// The first component, counted from 1, that no scan has brought; libjpeg takes it for grey and says
    /// nothing. Of a file with one scan always none.
    fn component_without_pixels(&self) -> Option<usize> {
        let decompressor = &*self.decompressor;
        let count = usize::try_from(decompressor.num_components).unwrap_or(0);
        // SAFETY: once the header is read, `comp_info` points to an array of `num_components`.
        let components = unsafe { std::slice::from_raw_parts(decompressor.comp_info, count) };
        // The table is set by the first scan of a component.
        components.iter().position(|part| part.quant_table.is_null()).map(|at| at + 1)
    }

    /// False for a progressive file whose scans leave bits of coefficients out.
    fn is_precise(&self) -> bool {
        let count = usize::try_from(self.decompressor.num_components).unwrap_or(0);
        let bits = self.decompressor.coef_bits.cast::<[c_int; 64]>();
        if bits.is_null() {
            return true;
        }
        // SAFETY: for progressive files libjpeg keeps, from `jpeg_start_decompress` on, how many bits are
        // still to come of each of 64 coefficients of every component, -1 where none has come.
        let bits = unsafe { std::slice::from_raw_parts(bits, count) };
        bits.iter().flatten().all(|&bits| bits == 0)
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // SAFETY: destroying is allowed in any state, also where creating it failed, since then it has no
        // memory yet. It does not fail; if it did, its memory would be lost and nothing else.
        let _ = caught(|| unsafe { sys::jpeg_destroy_decompress(&mut self.decompressor) });
        // SAFETY: all came from boxes, and C, which knew of them, is gone.
        unsafe {
            drop(Box::from_raw(self.errors));
            drop(Box::from_raw(self.source));
            drop(Box::from_raw(self.progress));
            drop(Box::from_raw(self.complaints));
        }
    }
}

/// Runs code that may unwind with libjpeg's message.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Error> {
    let error = |cause: Box<dyn Any + Send>| match cause.downcast::<Error>() {
        Ok(error) => *error,
        Err(_) => Error::new("libjpeg failed"),
    };
    catch_unwind(AssertUnwindSafe(run)).map_err(error)
}

/// Cyan, magenta, yellow and black, all inverted, as RGB: each times black, over 255, rounded.
fn colours(&[c, m, y, k]: &[u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let product = u32::from(ink) * u32::from(k) + 128;
        ((product + (product >> 8)) >> 8) as u8
    })
}

/// The text of the message that libjpeg is about to give.
///
/// # Safety
/// `common` is the structure that libjpeg calls a handler with.
unsafe fn message(common: &mut jpeg_common_struct) -> String {
    /// As C declares it; the binding takes the buffer for one of 80 bytes that is only read.
    type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
    type Bound = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]);
    // JMSG_LENGTH_MAX, which libjpeg writes no further than.
    let mut buffer = [0u8; 200];
    // SAFETY: by the caller; both function types pass the same two addresses.
    unsafe {
        if let Some(format) = (*common.err).format_message {
            std::mem::transmute::<Bound, Format>(format)(common, buffer.as_mut_ptr());
        }
    }
    let text = buffer.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// libjpeg's message of an error, as an unwinding that prints nothing.
unsafe extern "C-unwind" fn fail(common: &mut jpeg_common_struct) {
    // SAFETY: libjpeg calls with its own structure, whose handler is the one made in `open`.
    let (code, text) = unsafe { ((*common.err).msg_code, message(common)) };
    let text = match code {
        sys::JERR_ARITH_NOTIMPL => "arithmetic coding".to_owned(),
        _ => text,
    };
    resume_unwind(Box::new(Error { text, unsupported: is_unsupported(code) }));
}

/// Keeps warnings (below 0) and prints nothing.
unsafe extern "C-unwind" fn warn(common: &mut jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    // SAFETY: libjpeg calls with its own structure, whose handler and complaints are those made in `open`;
    // nothing else holds a reference to the complaints while libjpeg runs.
    unsafe {
        (*common.err).num_warnings += 1;
        let code = (*common.err).msg_code;
        let complaints = common.client_data.cast::<Complaints>();
        if let Some(complaints) = complaints.as_mut() {
            complaints.note(code, || message(common));
        }
    }
}

/// Stops at a file with more scans than any image needs.
unsafe extern "C-unwind" fn count_scans(common: &mut jpeg_common_struct) {
    // SAFETY: only decompressors are made here, and libjpeg passes them as the structure they begin with.
    let decompressor = unsafe { &*std::ptr::from_mut(common).cast::<jpeg_decompress_struct>() };
    let pixels = u64::from(decompressor.image_width) * u64::from(decompressor.image_height).max(1);
    let scans = u64::try_from(decompressor.input_scan_number).unwrap_or(0);
    let allowed = (SCANNED_PIXELS / pixels.max(1)).clamp(SCANS, 20 * SCANS);
    if scans > allowed {
        let text = format!("more than {allowed} scans");
        resume_unwind(Box::new(Error { text, unsupported: true }));
    }
}

unsafe extern "C-unwind" fn nothing(_: &mut jpeg_decompress_struct) {}

/// All bytes were given: warns and goes on with an end mark, as libjpeg's own sources do.
unsafe extern "C-unwind" fn ended(decompressor: &mut jpeg_decompress_struct) -> boolean {
    static END: [u8; 2] = [0xff, 0xd9];
    // SAFETY: handler and source are those made in `open`; the bytes are there for ever.
    unsafe {
        (*decompressor.common.err).msg_code = sys::JWRN_JPEG_EOF;
        warn(&mut decompressor.common, -1);
        (*decompressor.src).next_input_byte = END.as_ptr();
        (*decompressor.src).bytes_in_buffer = END.len();
    }
    1
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
