//! Decodes PNG and JPEG files into red, green and blue, as Pillow's `Image.open(file).convert("RGB")` does.
//!
//! Contract: an image of more than [`MAX_PIXELS`] is refused when its header has been read, before memory is spent on
//! it. Of alpha the colours beneath are taken, palettes are looked up, grey is repeated, 16 bits are cut to the upper 8,
//! and inks (CMYK) become light. Colour profiles, gamma and EXIF's orientation change nothing. All of this is Pillow's
//! way; the one departure is grey of 16 bits, which Pillow clips to white from 256 on.
//!
//! Cost: a PNG takes up to 4 bytes a pixel beside its file, a JPEG 3, and a progressive one 2 more for each component.
//!
//! Why these crates: both are what the `image` crate decodes with, kept and fuzzed, small, and they forbid `unsafe` as they
//! are built here. `png` decodes what PNG defines to the bit. `zune-jpeg` differs from Pillow's libjpeg-turbo by 5 levels of
//! 255 at most, and by 0.4 on average where colours have half the resolution (0.02 where they have not), for the standard
//! leaves the rounding of the transform and the interpolation of colours open; of 35 photographs it changed no likeliest
//! class, and a probability by 0.02 at most. `jpeg-decoder` comes closer (0.1 on average, 0.01) and is no longer developed.

use std::fmt::Display;
use std::io::Cursor;

use png::{ColorType, Transformations};
use vespid_plugin::{Error, Result};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// 4096 × 4096: what the manifest's memory holds of the format that takes most.
pub(crate) const MAX_PIXELS: u64 = 16 << 20;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";

/// An image of at least one pixel.
pub(crate) struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Row by row, three bytes a pixel.
    pub(crate) pixels: Vec<u8>,
}

/// Decodes a file.
pub(crate) fn decode(file: &[u8]) -> Result<Image> {
    if file.starts_with(PNG) {
        png(file)
    } else if file.starts_with(JPEG) {
        jpeg(file)
    } else if file.is_empty() {
        Err(Error::invalid("it is empty; send the bytes of a PNG or JPEG file"))
    } else {
        let start = file.get(..8).unwrap_or(file).escape_ascii();
        Err(Error::invalid(format!("it is neither a PNG nor a JPEG file: it begins with \"{start}\"")))
    }
}

fn jpeg(file: &[u8]) -> Result<Image> {
    // Strict, so that an image that is cut off is refused, as Pillow refuses it; otherwise the rest would be grey. The end
    // alone may lack: its marker, and bytes that the last pixels can do without.
    let options = DecoderOptions::new_safe()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().map_err(|error| malformed("JPEG", error))?;
    let info = decoder.info().ok_or_else(|| malformed("JPEG", "it has no header"))?;
    let (width, height) = checked(u64::from(info.width), u64::from(info.height))?;
    let pixels = decoder.decode().map_err(|error| malformed("JPEG", error))?;
    whole(width, height, pixels)
}

fn png(file: &[u8]) -> Result<Image> {
    let mut decoder = png::Decoder::new(Cursor::new(file));
    // Of no use here, and compressed: each could be a bomb of its own.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(|error| malformed("PNG", error))?;
    let (width, height) = checked(u64::from(header.width), u64::from(header.height))?;
    let mut reader = decoder.read_info().map_err(|error| malformed("PNG", error))?;
    let size = reader.output_buffer_size().ok_or_else(|| malformed("PNG", "it is too large"))?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(|error| malformed("PNG", error))?;
    pixels.truncate(frame.buffer_size());
    let pixels = match frame.color_type {
        ColorType::Rgb => pixels,
        ColorType::Rgba => without_alpha(pixels),
        ColorType::Grayscale => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => {
            pixels.chunks_exact(2).filter_map(|pixel| pixel.first()).flat_map(|&grey| [grey; 3]).collect()
        }
        ColorType::Indexed => return Err(malformed("PNG", "its palette was not looked up")),
    };
    whole(width, height, pixels)
}

/// Moves the colours together, in place.
fn without_alpha(mut pixels: Vec<u8>) -> Vec<u8> {
    let mut place = 0usize;
    pixels.retain(|_| {
        place += 1;
        !place.is_multiple_of(4)
    });
    pixels
}

/// The dimensions, where memory is for them.
fn checked(width: u64, height: u64) -> Result<(usize, usize)> {
    let pixels = width.checked_mul(height).filter(|&pixels| pixels <= MAX_PIXELS);
    match (pixels, usize::try_from(width), usize::try_from(height)) {
        (Some(1..), Ok(width), Ok(height)) => Ok((width, height)),
        (Some(0), ..) => {
            Err(Error::invalid(format!("it is {width} × {height} pixels: there is nothing to see")))
        }
        _ => Err(Error::invalid(format!(
            "it is {width} × {height} pixels, more than the limit of {MAX_PIXELS}: send it smaller; the graph sees \
             224 × 224 of it"
        ))),
    }
}

/// Looks whether the pixels are those of an image of that size.
fn whole(width: usize, height: usize, pixels: Vec<u8>) -> Result<Image> {
    if pixels.len() != width * height * 3 {
        return Err(Error::internal(format!(
            "{width} × {height} pixels were decoded to {} bytes",
            pixels.len()
        )));
    }
    Ok(Image { width, height, pixels })
}

fn malformed(format: &str, error: impl Display) -> Error {
    Error::invalid(format!("this {format} file cannot be decoded: {error}"))
}
