//! A writer of random JPEG files that are valid by T.81: any subsampling, sequential or progressive, any
//! division into scans, colour markers, restarts, stray bytes. Huffman tables are the simplest there
//! are: every DC code has 4 bits and every AC code 8.

/// Numbers of a seed (xorshift64*).
pub struct Draw(u64);

impl Draw {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % u64::from(end)) as u32
    }

    pub fn from(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    pub fn chance(&mut self, one_in: u32) -> bool {
        self.below(one_in) == 0
    }
}

/// What the components are, by the markers and ids of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    Grey,
    Ycc,
    Rgb,
    Cmyk,
    Ycck,
}

pub struct Component {
    pub id: u8,
    pub h: u32,
    pub v: u32,
    pub table: u8,
    /// Blocks across and down that hold samples, and with those that fill up interleaved units.
    pub blocks: (u32, u32),
    pub padded: (u32, u32),
    /// Coefficients in zigzag order, row by row of the padded blocks.
    pub coefficients: Vec<[i32; 64]>,
}

/// An image as coefficients.
pub struct Image {
    pub width: u32,
    pub height: u32,
    pub colours: Colours,
    pub components: Vec<Component>,
    /// Quantization tables in zigzag order.
    pub tables: [[u8; 64]; 2],
    markers: Vec<u8>,
}

impl Image {
    pub fn draw(draw: &mut Draw) -> Self {
        let (width, height) = (draw.from(1, 70), draw.from(1, 70));
        let count = [1, 3, 3, 3, 4][draw.below(5) as usize];
        let factors: Vec<(u32, u32)> = loop {
            let most = draw.from(1, 4);
            let factors: Vec<_> =
                (0..count).map(|_| (draw.from(1, most), draw.from(1, most))).collect();
            // What photographs have, as often as everything else together.
            if draw.chance(2) && count > 1 {
                let (h, v) = (draw.from(1, 2), draw.from(1, 2));
                break (0..count).map(|at| if at % 3 == 0 { (h, v) } else { (1, 1) }).collect();
            }
            if count == 1 || factors.iter().map(|(h, v)| h * v).sum::<u32>() <= 10 {
                break factors;
            }
        };
        let (markers, ids, colours) = markers(draw, count);
        let most = |side: fn(&(u32, u32)) -> u32| factors.iter().map(side).max().unwrap();
        let (hmax, vmax) = (most(|f| f.0), most(|f| f.1));
        let components = factors
            .iter()
            .enumerate()
            .map(|(at, &(h, v))| {
                let blocks = (
                    (width * h).div_ceil(hmax).div_ceil(8),
                    (height * v).div_ceil(vmax).div_ceil(8),
                );
                let padded = (width.div_ceil(8 * hmax) * h, height.div_ceil(8 * vmax) * v);
                let coefficients = (0..padded.0 * padded.1).map(|_| block(draw)).collect();
                let table = u8::from(at > 0);
                Component { id: ids[at], h, v, table, blocks, padded, coefficients }
            })
            .collect();
        let tables = [0, 1].map(|_| std::array::from_fn(|_| draw.from(1, 12) as u8));
        Self { width, height, colours, components, tables, markers }
    }

    /// True where libjpeg, as it says, lacks the upsampling.
    pub fn is_fractional(&self) -> bool {
        let hmax = self.components.iter().map(|c| c.h).max().unwrap();
        let vmax = self.components.iter().map(|c| c.v).max().unwrap();
        self.components.iter().any(|c| hmax % c.h != 0 || vmax % c.v != 0)
    }
}

/// A block: a mean, and a few waves.
fn block(draw: &mut Draw) -> [i32; 64] {
    let mut block = [0; 64];
    block[0] = draw.from(0, 120) as i32 - 60;
    for _ in 0..draw.below(7) {
        let at = if draw.chance(3) { draw.from(1, 63) } else { draw.from(1, 9) };
        block[at as usize] = draw.from(0, 10) as i32 - 5;
    }
    block
}

/// Segments that say which colours there are, the components' ids, and what libjpeg makes of both.
fn markers(draw: &mut Draw, count: usize) -> (Vec<u8>, Vec<u8>, Colours) {
    let jfif = [&[0xff, 0xe0, 0, 16][..], b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"].concat();
    let adobe =
        |transform: u8| [&[0xff, 0xee, 0, 14][..], b"Adobe\0\x64\0\0\0\0", &[transform]].concat();
    let ids: Vec<u8> = (1..=count as u8).collect();
    match count {
        1 => (if draw.chance(2) { jfif } else { Vec::new() }, ids, Colours::Grey),
        3 => match draw.below(7) {
            0 => (jfif, ids, Colours::Ycc),
            1 => ([jfif, adobe(0)].concat(), ids, Colours::Ycc),
            2 => (jfif, b"RGB".to_vec(), Colours::Ycc),
            3 => (adobe(0), ids, Colours::Rgb),
            4 => (adobe(1), b"RGB".to_vec(), Colours::Ycc),
            5 => (Vec::new(), b"RGB".to_vec(), Colours::Rgb),
            _ => (Vec::new(), ids, Colours::Ycc),
        },
        _ => match draw.below(3) {
            0 => (adobe(0), ids, Colours::Cmyk),
            1 => (adobe(2), ids, Colours::Ycck),
            _ => (Vec::new(), ids, Colours::Cmyk),
        },
    }
}

/// One scan: components, and the part of the coefficients that it brings.
struct Scan {
    components: Vec<usize>,
    from: usize,
    to: usize,
    /// Bits that were brought before (0 for the first scan of a band), and bits that are still left.
    high: u32,
    low: u32,
}

/// How a file is written.
#[derive(Debug)]
pub struct Style {
    pub progressive: bool,
    /// All components in one scan where they fit, no restarts, no stray bytes.
    pub plain: bool,
    /// True once stray bytes were written behind pixels, or between segments.
    pub stray: bool,
}

pub fn write(image: &Image, style: &mut Style, draw: &mut Draw) -> Vec<u8> {
    let mut file = vec![0xff, 0xd8];
    file.extend(&image.markers);
    for (at, table) in image.tables.iter().enumerate() {
        segment(&mut file, 0xdb, &[&[at as u8][..], table].concat(), style, draw);
    }
    let mut dc = vec![0x00, 0, 0, 0, 12];
    dc.resize(17, 0);
    dc.extend(0..12u8);
    let mut ac = vec![0x10, 0, 0, 0, 0, 0, 0, 0, 255];
    ac.resize(17, 0);
    ac.extend(0..255u8);
    segment(&mut file, 0xc4, &[dc, ac].concat(), style, draw);
    let sides = [image.height as u16, image.width as u16].map(u16::to_be_bytes).concat();
    let mut frame = [&[8][..], &sides, &[image.components.len() as u8]].concat();
    for part in &image.components {
        frame.extend([part.id, (part.h << 4 | part.v) as u8, part.table]);
    }
    segment(&mut file, if style.progressive { 0xc2 } else { 0xc1 }, &frame, style, draw);
    for scan in script(image, style, draw) {
        let interval = if style.plain || draw.chance(2) { 0 } else { draw.from(1, 9) };
        if !style.plain {
            segment(&mut file, 0xdd, &(interval as u16).to_be_bytes(), style, draw);
        }
        let mut head = vec![scan.components.len() as u8];
        for &at in &scan.components {
            head.extend([image.components[at].id, 0]);
        }
        head.extend([scan.from as u8, scan.to as u8, (scan.high << 4 | scan.low) as u8]);
        segment(&mut file, 0xda, &head, style, draw);
        pixels(&mut file, image, &scan, style.progressive, interval);
        if !style.plain && draw.chance(8) {
            file.extend([1, 2, 3]);
            style.stray = true;
        }
    }
    file.extend([0xff, 0xd9]);
    file
}

fn segment(file: &mut Vec<u8>, mark: u8, body: &[u8], style: &mut Style, draw: &mut Draw) {
    if !style.plain && draw.chance(12) {
        file.extend([7, 8]);
        style.stray = true;
    }
    // Marks may be preceded by any number of 0xff.
    file.extend(vec![0xff; if style.plain { 1 } else { draw.from(1, 3) as usize }]);
    file.push(mark);
    file.extend((body.len() as u16 + 2).to_be_bytes());
    file.extend(body);
}

/// Components in groups, each of which fits into a scan.
fn groups(image: &Image, plain: bool, draw: &mut Draw) -> Vec<Vec<usize>> {
    let blocks = |group: &[usize]| -> u32 {
        group.iter().map(|&at| image.components[at].h * image.components[at].v).sum()
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in 0..image.components.len() {
        let last = groups
            .last_mut()
            .filter(|last| blocks(last) + blocks(&[at]) <= 10 && (plain || draw.chance(2)));
        match last {
            Some(last) => last.push(at),
            None => groups.push(vec![at]),
        }
    }
    if !plain && draw.chance(2) {
        groups.reverse();
    }
    groups
}

fn script(image: &Image, style: &Style, draw: &mut Draw) -> Vec<Scan> {
    if !style.progressive {
        let groups = groups(image, style.plain, draw).into_iter();
        return groups
            .map(|components| Scan { components, from: 0, to: 63, high: 0, low: 0 })
            .collect();
    }
    let mut scans = Vec::new();
    let low = draw.below(3);
    for high in (low..=low + low).rev().map(|step| step - low) {
        // The first scan leaves `low` bits out, each further one brings a bit.
        let before = if high == low { 0 } else { high + 1 };
        for components in groups(image, false, draw) {
            scans.push(Scan { components, from: 0, to: 0, high: before, low: high });
        }
    }
    let mut bands = Vec::new();
    for at in 0..image.components.len() {
        let mut from = 1;
        while from <= 63 {
            let to = if draw.chance(2) { 63 } else { draw.from(from, 63) };
            let low = draw.below(3);
            let band: Vec<_> = (0..=low)
                .rev()
                .map(|left| Scan {
                    components: vec![at],
                    from: from as usize,
                    to: to as usize,
                    high: if left == low { 0 } else { left + 1 },
                    low: left,
                })
                .collect();
            bands.push(std::collections::VecDeque::from(band));
            from = to + 1;
        }
    }
    // Bands in any order, the scans of each in theirs.
    while !bands.is_empty() {
        let at = draw.below(bands.len() as u32) as usize;
        scans.extend(bands[at].pop_front());
        if bands[at].is_empty() {
            bands.swap_remove(at);
        }
    }
    scans
}

/// Bits of entropy coding, with stuffed zeros.
struct Bits<'a> {
    file: &'a mut Vec<u8>,
    word: u32,
    count: u32,
}

impl Bits<'_> {
    fn put(&mut self, value: u32, count: u32) {
        for at in (0..count).rev() {
            self.word = self.word << 1 | (value >> at & 1);
            self.count += 1;
            if self.count == 8 {
                self.file.push(self.word as u8);
                if self.word as u8 == 0xff {
                    self.file.push(0);
                }
                (self.word, self.count) = (0, 0);
            }
        }
    }

    fn fill(&mut self) {
        if self.count > 0 {
            self.put(0xff, 8 - self.count);
        }
    }

    /// The size of a value, coded, and its bits.
    fn dc(&mut self, value: i32) {
        let size = 32 - value.unsigned_abs().leading_zeros();
        self.put(size, 4);
        self.value(value, size);
    }

    fn value(&mut self, value: i32, size: u32) {
        let bits = if value < 0 { value - 1 } else { value } as u32;
        self.put(bits & ((1 << size) - 1), size);
    }
}

fn pixels(file: &mut Vec<u8>, image: &Image, scan: &Scan, progressive: bool, interval: u32) {
    let parts: Vec<_> = scan.components.iter().map(|&at| &image.components[at]).collect();
    // Alone a component has units of one block; together, of all that belong to a square.
    let units: Vec<Vec<(usize, usize)>> = match &parts[..] {
        [part] => (0..part.blocks.0 * part.blocks.1)
            .map(|at| {
                let (x, y) = (at % part.blocks.0, at / part.blocks.0);
                vec![(0, (y * part.padded.0 + x) as usize)]
            })
            .collect(),
        _ => {
            let (across, down) = (parts[0].padded.0 / parts[0].h, parts[0].padded.1 / parts[0].v);
            (0..across * down)
                .map(|at| {
                    let (x, y) = (at % across, at / across);
                    let blocks = parts.iter().enumerate().flat_map(|(number, part)| {
                        (0..part.h * part.v).map(move |block| {
                            let (bx, by) =
                                (x * part.h + block % part.h, y * part.v + block / part.h);
                            (number, (by * part.padded.0 + bx) as usize)
                        })
                    });
                    blocks.collect()
                })
                .collect()
        }
    };
    let mut bits = Bits { file, word: 0, count: 0 };
    let mut before = vec![0; parts.len()];
    for (number, unit) in units.iter().enumerate() {
        if interval > 0 && number > 0 && (number as u32).is_multiple_of(interval) {
            bits.fill();
            bits.file.extend([0xff, 0xd0 + ((number as u32 / interval - 1) % 8) as u8]);
            before.fill(0);
        }
        for &(part, at) in unit {
            let block = &parts[part].coefficients[at];
            if scan.from == 0 {
                let mean = block[0] >> scan.low;
                if scan.high > 0 {
                    bits.put((mean & 1) as u32, 1);
                    continue;
                }
                bits.dc(mean - before[part]);
                before[part] = mean;
            }
            if !progressive {
                waves(&mut bits, &block[1..], 0);
            } else if scan.from > 0 && scan.high == 0 {
                waves(&mut bits, &block[scan.from..=scan.to], scan.low);
            } else if scan.from > 0 {
                refine(&mut bits, &block[scan.from..=scan.to], scan.low);
            }
        }
    }
    bits.fill();
}

/// Coefficients of a band without their last `low` bits.
fn waves(bits: &mut Bits, band: &[i32], low: u32) {
    let mut run = 0;
    for &value in band {
        let value = if value < 0 { -(-value >> low) } else { value >> low };
        if value == 0 {
            run += 1;
            continue;
        }
        while run > 15 {
            bits.put(0xf0, 8);
            run -= 16;
        }
        let size = 32 - value.unsigned_abs().leading_zeros();
        bits.put(run << 4 | size, 8);
        bits.value(value, size);
        run = 0;
    }
    if run > 0 {
        bits.put(0, 8);
    }
}

/// One bit more of a band's coefficients (T.81 G.1.2.3).
fn refine(bits: &mut Bits, band: &[i32], low: u32) {
    let size = |value: i32| value.unsigned_abs() >> low;
    let last = band.iter().rposition(|&value| size(value) == 1);
    let (mut run, mut more) = (0, Vec::new());
    for (at, &value) in band.iter().enumerate() {
        if size(value) == 0 {
            run += 1;
            continue;
        }
        while run > 15 && last.is_some_and(|last| at <= last) {
            bits.put(0xf0, 8);
            more.drain(..).for_each(|bit| bits.put(bit, 1));
            run -= 16;
        }
        if size(value) > 1 {
            more.push(size(value) & 1);
            continue;
        }
        bits.put(run << 4 | 1, 8);
        bits.put(u32::from(value > 0), 1);
        more.drain(..).for_each(|bit| bits.put(bit, 1));
        run = 0;
    }
    if run > 0 || !more.is_empty() {
        bits.put(0, 8);
        more.drain(..).for_each(|bit| bits.put(bit, 1));
    }
}
