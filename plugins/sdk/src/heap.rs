//! The plugin's heap: dlmalloc, as in the standard library, but beginning inside the memory that the instance has anyway.
//!
//! Why: the standard library's heap begins by growing the memory. Each call has a fresh instance, so each would pay for
//! that, and for taking it back, with two changes of memory protection: some microseconds, where a whole call takes ten.
//! A plugin that needs more than the first part grows the memory as usual.
#![allow(unsafe_code, reason = "allocators are unsafe by nature; each use says why it is sound")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::{Cell, UnsafeCell};
use std::{arch::wasm32, ptr};

use dlmalloc::{Allocator, Dlmalloc};

/// A page of WebAssembly.
const PAGE: usize = 64 * 1024;
/// What is there from the start. Pages that are never written cost nothing.
const FIRST: usize = 4 * PAGE;

#[repr(C, align(16))]
struct Arena(UnsafeCell<[u8; FIRST]>);

// SAFETY: a component's instance has one thread.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; FIRST]));

/// Where dlmalloc gets memory from: the arena once, then the instance's memory as it grows.
struct Pages {
    arena_taken: Cell<bool>,
}

// SAFETY: what is handed out is the arena, once, or pages that `memory.grow` has just made: nobody else's, as large as
// is said, and zero.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if size <= FIRST && !self.arena_taken.replace(true) {
            return (ARENA.0.get().cast(), FIRST, 0);
        }
        let pages = size.div_ceil(PAGE);
        // The very last page is left alone, so that no pointer past the end wraps around.
        match wasm32::memory_grow(0, pages) {
            before if before == usize::MAX || before + pages >= PAGE => (ptr::null_mut(), 0, 0),
            before => ((before * PAGE) as *mut u8, pages * PAGE, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

struct Heap(UnsafeCell<Dlmalloc<Pages>>);

// SAFETY: a component's instance has one thread.
unsafe impl Sync for Heap {}

#[global_allocator]
static HEAP: Heap =
    Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Pages { arena_taken: Cell::new(false) })));

// SAFETY: dlmalloc keeps to the contract of `GlobalAlloc`; the exclusive borrows cannot overlap, for there is one thread
// and dlmalloc does not call back into the heap.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; the caller vouches for the pointer and the layout.
        unsafe { (*self.0.get()).free(pointer, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`.
        unsafe { (*self.0.get()).realloc(pointer, layout.size(), layout.align(), size) }
    }
}
