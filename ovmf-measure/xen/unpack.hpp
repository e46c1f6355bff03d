// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "base/bytes.hpp"

namespace sev::measure {

/// Most bytes that Xen's domain builder unpacks, or reads of a file (XC_DOM_DECOMPRESS_MAX).
inline constexpr std::size_t xen_unpack_limit_bytes = std::size_t{1} << 30;

/// Bytes, and what they lie in; without owner they are a part of the input.
struct Unpacked {
    ByteView bytes;
    std::shared_ptr<const void> owner;
};

/// Size of a file as the builder takes it when it looks like gzip: the length its last four bytes claim, and 16 more. nullopt for another file, for
/// one of less than 6 bytes, and for a claim above `limit_bytes`: those are taken as they are.
std::optional<std::size_t> gunzip_size(ByteView file, std::size_t limit_bytes = xen_unpack_limit_bytes);
/// The first gzip member of a file, then zeros, `size_bytes` in all. nullopt when it is damaged or longer than that.
std::optional<Unpacked> gunzip_first_member(ByteView file, std::size_t size_bytes);

/// unpack_kernel returns the ELF image in a kernel file as Xen's builder finds it: the file may be gzip as a whole, and may be a Linux bzImage (boot
/// protocol 2.08 or later) with a payload that is gzip, xz, lzma, lz4 in Linux's legacy framing, or zstd. An ELF file is returned as it is.
///
/// `lzma_memory_mib` what the builder gives xz and lzma. `limit_bytes` most bytes of output.
/// Throws Error{Fault::malformed} with `what` and offset for what is neither, is damaged, or unpacks to another length than its last four bytes say
/// (of xz and lzma Xen takes that many bytes, though more would come); Error{Fault::usage} for bzip2 and LZO payloads, which are not unpacked here.
/// Source: Xen 4.17.7, tools/libs/guest/xg_dom_bzimageloader.c; Linux Documentation/arch/x86/boot.rst.
Unpacked unpack_kernel(ByteView file, std::string_view what, unsigned lzma_memory_mib = 256, std::size_t limit_bytes = xen_unpack_limit_bytes);

} // namespace sev::measure
