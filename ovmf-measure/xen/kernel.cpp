// SPDX-License-Identifier: Apache-2.0
#include "ovmf-measure/xen/kernel.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::measure {
namespace {

constexpr std::uint64_t page_bytes = 4096, four_gib = std::uint64_t{1} << 32;
constexpr std::size_t guest_os_bytes = 15, string_limit_bytes = 4096, note_limit = 65536;
constexpr std::uint32_t pt_load = 1, pt_note = 4, sht_note = 7, any_access = 7;

/// Note types. Source: Xen public/elfnote.h.
enum Note : std::uint32_t {
    virt_base = 3,
    paddr_offset = 4,
    guest_os = 6,
    bsd_symtab = 11,
    mod_start_pfn = 16,
    supported_features = 17,
    phys32_entry = 18
};

/// The file, read at any offset; every read outside of it is an error that names the field.
class File {
public:
    File(ByteView bytes, std::string_view what) : bytes_{bytes}, what_{what} {}
    std::uint64_t size() const noexcept { return bytes_.size(); }
    bool has(std::uint64_t at, std::uint64_t length) const noexcept { return at <= bytes_.size() && length <= bytes_.size() - at; }
    [[noreturn]] void refuse(std::uint64_t at, std::string_view problem) const {
        throw Error{Fault::malformed, fmt::format("{}: {:x}h {}", what_, at, problem)};
    }
    /// Little-endian, of 1, 2, 4 or 8 bytes.
    std::uint64_t number(std::uint64_t at, unsigned size_bytes, std::string_view field) const {
        if (!has(at, size_bytes)) refuse(at, fmt::format("{} is outside the file's {} bytes", field, bytes_.size()));
        std::uint64_t out = 0;
        for (unsigned i = size_bytes; i-- > 0;) out = out << 8 | bytes_[static_cast<std::size_t>(at) + i];
        return out;
    }
    /// Up to a NUL, which must come within 4096 bytes and inside the file.
    std::string_view string(std::uint64_t at, std::string_view field) const {
        if (at < bytes_.size()) {
            const std::string_view rest = as_text(bytes_.subspan(
                static_cast<std::size_t>(at), std::min<std::size_t>(bytes_.size() - static_cast<std::size_t>(at), string_limit_bytes)));
            if (const auto end = rest.find('\0'); end != std::string_view::npos) return rest.substr(0, end);
        }
        refuse(at, fmt::format("{} does not end within the file or {} bytes", field, string_limit_bytes));
    }

private:
    ByteView bytes_;
    std::string_view what_;
};

/// Where the fields of a class are: 32 or 64 bit.
struct Layout {
    unsigned word; // bytes of an address
    std::uint64_t phoff, shoff, phentsize, phnum, shentsize, shnum;
    std::uint64_t p_size, p_offset, p_paddr, p_filesz, p_memsz, p_flags;
    std::uint64_t s_size, s_offset, s_bytes;
};
constexpr Layout layout32{.word = 4, .phoff = 0x1C, .shoff = 0x20, .phentsize = 0x2A, .phnum = 0x2C, .shentsize = 0x2E, .shnum = 0x30,
                          .p_size = 0x20, .p_offset = 0x04, .p_paddr = 0x0C, .p_filesz = 0x10, .p_memsz = 0x14, .p_flags = 0x18,
                          .s_size = 0x28, .s_offset = 0x10, .s_bytes = 0x14};
constexpr Layout layout64{.word = 8, .phoff = 0x20, .shoff = 0x28, .phentsize = 0x36, .phnum = 0x38, .shentsize = 0x3A, .shnum = 0x3C,
                          .p_size = 0x38, .p_offset = 0x08, .p_paddr = 0x18, .p_filesz = 0x20, .p_memsz = 0x28, .p_flags = 0x04,
                          .s_size = 0x40, .s_offset = 0x18, .s_bytes = 0x20};

struct Table {
    std::uint64_t at, entry_bytes, count;
};
Table table_of(const File& file, const Layout& at, std::uint64_t offset, std::uint64_t entsize, std::uint64_t count, std::uint64_t least,
               std::string_view name) {
    const Table out{.at = file.number(offset, at.word, name), .entry_bytes = file.number(entsize, 2, name), .count = file.number(count, 2, name)};
    if (out.count == 0) return out;
    if (out.entry_bytes < least) file.refuse(entsize, fmt::format("{} entries of {} bytes, want {} or more", name, out.entry_bytes, least));
    if (!file.has(out.at, out.entry_bytes * out.count))
        file.refuse(offset, fmt::format("{} table of {} entries of {} bytes at {:x}h is not inside the file's {} bytes", name, out.count,
                                        out.entry_bytes, out.at, file.size()));
    return out;
}

std::uint64_t numeric(const File& file, std::uint64_t at, std::uint64_t size_bytes) {
    if (size_bytes != 1 && size_bytes != 2 && size_bytes != 4 && size_bytes != 8) return 0; // as Xen takes it
    return file.number(at, static_cast<unsigned>(size_bytes), "Xen note");
}

void take_note(const File& file, XenNotes& notes, std::uint32_t type, std::uint64_t at, std::uint64_t size_bytes) {
    switch (type) {
    case Note::virt_base: notes.virt_base = true; return;
    case Note::paddr_offset: notes.paddr_offset = true; return;
    case Note::guest_os: notes.guest_os = file.string(at, "note GUEST_OS").substr(0, guest_os_bytes); return;
    case Note::bsd_symtab: notes.bsd_symtab = notes.bsd_symtab || file.string(at, "note BSD_SYMTAB") == "yes"; return;
    case Note::mod_start_pfn: notes.mod_start_pfn = numeric(file, at, size_bytes) != 0; return;
    case Note::supported_features:
        if (size_bytes % 4 == 0 && size_bytes >= 4)
            notes.supported_features |= static_cast<std::uint32_t>(file.number(at, 4, "note SUPPORTED_FEATURES"));
        return;
    case Note::phys32_entry: {
        const std::uint64_t entry = numeric(file, at, size_bytes);
        if (entry >= UINT32_MAX) file.refuse(at, fmt::format("note PHYS32_ENTRY is {:#x}, want an address below 4 GiB", entry));
        notes.phys32_entry = static_cast<std::uint32_t>(entry);
        return;
    }
    default: return;
    }
}

/// The notes in file bytes [at, end): u32 name size, u32 description size, u32 type, name, description, both padded to 4 bytes.
void read_notes(const File& file, std::uint64_t at, std::uint64_t end, XenNotes& notes, std::size_t& seen) {
    const auto padded = [](std::uint64_t size) { return (size + 3) & ~std::uint64_t{3}; };
    if (end < at || end > file.size()) file.refuse(at, fmt::format("notes end at {:x}h, outside the file's {} bytes", end, file.size()));
    while (at < end) {
        if (++seen > note_limit) file.refuse(at, fmt::format("more than {} notes", note_limit));
        const std::uint64_t name_bytes = file.number(at, 4, "note"), size_bytes = file.number(at + 4, 4, "note");
        const auto type = static_cast<std::uint32_t>(file.number(at + 8, 4, "note"));
        const std::uint64_t description = at + 12 + padded(name_bytes);
        if (!file.has(description, size_bytes))
            file.refuse(at, fmt::format("note of {} + {} bytes is not inside the file's {} bytes", name_bytes, size_bytes, file.size()));
        if (file.string(at + 12, "a note's name") == "Xen") {
            take_note(file, notes, type, description, size_bytes);
            ++notes.count;
        }
        at = description + padded(size_bytes);
    }
}

void read_segments(const File& file, const Layout& at, const Table& headers, XenElf& out) {
    for (std::uint64_t i = 0; i < headers.count; ++i) {
        const std::uint64_t header = headers.at + i * headers.entry_bytes;
        if (file.number(header, 4, "p_type") != pt_load || (file.number(header + at.p_flags, 4, "p_flags") & any_access) == 0) continue;
        const XenElfSegment segment{.paddr = file.number(header + at.p_paddr, at.word, "p_paddr"),
                                    .offset = file.number(header + at.p_offset, at.word, "p_offset"),
                                    .filesz = file.number(header + at.p_filesz, at.word, "p_filesz"),
                                    .memsz = file.number(header + at.p_memsz, at.word, "p_memsz")};
        if (!file.has(segment.offset, segment.filesz))
            file.refuse(header,
                        fmt::format("segment of {} bytes at {:x}h is not inside the file's {} bytes", segment.filesz, segment.offset, file.size()));
        if (segment.filesz > segment.memsz) file.refuse(header, fmt::format("p_filesz is {}, more than p_memsz {}", segment.filesz, segment.memsz));
        if (segment.paddr >= four_gib || segment.memsz >= four_gib - segment.paddr)
            file.refuse(header, fmt::format("segment of {:#x} bytes at address {:#x}, want it to end below 4 GiB", segment.memsz, segment.paddr));
        out.segments.push_back(segment);
    }
    if (out.segments.empty()) file.refuse(headers.at, "no loadable segment among the program headers");
    std::ranges::sort(out.segments, {}, [](const XenElfSegment& s) { return std::pair{s.paddr, s.memsz}; });
    out.start = out.segments.front().paddr;
    if (out.start % page_bytes != 0)
        file.refuse(headers.at, fmt::format("the lowest p_paddr is {:#x}, want a multiple of {:#x}: Xen refuses others", out.start, page_bytes));
    for (const XenElfSegment& segment : out.segments) {
        if (segment.memsz != 0 && segment.paddr < out.end)
            file.refuse(headers.at, fmt::format("the segment at address {:#x} overlaps the one before it", segment.paddr));
        out.end = std::max(out.end, segment.paddr + segment.memsz);
    }
    if (out.end == out.start) file.refuse(headers.at, "the loadable segments are empty");
}

} // namespace

XenElf XenElf::parse(ByteView bytes, std::string_view what) {
    const File file{bytes, what};
    if (file.number(0, 4, "ELF magic") != 0x464C457F) file.refuse(0, "is no ELF magic");
    const std::uint64_t elf_class = file.number(4, 1, "EI_CLASS"), data = file.number(5, 1, "EI_DATA"), machine = file.number(0x12, 2, "e_machine");
    if (elf_class != 1 && elf_class != 2) file.refuse(4, fmt::format("EI_CLASS is {}, want 1 or 2", elf_class));
    if (data != 1) file.refuse(5, fmt::format("EI_DATA is {}, want 1 (little-endian)", data));
    if (machine != 3 && machine != 62) file.refuse(0x12, fmt::format("e_machine is {}, want 3 (i386) or 62 (x86-64)", machine));
    XenElf out;
    out.is_64 = elf_class == 2;
    const Layout& at = out.is_64 ? layout64 : layout32;
    out.entry = file.number(0x18, at.word, "e_entry");
    const Table programs = table_of(file, at, at.phoff, at.phentsize, at.phnum, at.p_size, "program header");
    const Table sections = table_of(file, at, at.shoff, at.shentsize, at.shnum, at.s_size, "section header");
    read_segments(file, at, programs, out);
    std::size_t seen = 0;
    for (std::uint64_t i = 0; i < programs.count; ++i) {
        const std::uint64_t header = programs.at + i * programs.entry_bytes;
        if (file.number(header, 4, "p_type") != pt_note) continue;
        const std::uint64_t start = file.number(header + at.p_offset, at.word, "p_offset"),
                            size = file.number(header + at.p_filesz, at.word, "p_filesz");
        if (start == 0) continue; // Xen passes these over
        if (!file.has(start, size))
            file.refuse(header, fmt::format("note segment of {} bytes at {:x}h is not inside the file's {} bytes", size, start, file.size()));
        read_notes(file, start, start + size, out.notes, seen);
    }
    if (out.notes.count > 0) return out;
    for (std::uint64_t i = 1; i < sections.count; ++i) {
        const std::uint64_t header = sections.at + i * sections.entry_bytes;
        if (file.number(header + 4, 4, "sh_type") != sht_note) continue;
        const std::uint64_t start = file.number(header + at.s_offset, at.word, "sh_offset"),
                            size = file.number(header + at.s_bytes, at.word, "sh_size");
        if (!file.has(start, size))
            file.refuse(header, fmt::format("note section of {} bytes at {:x}h is not inside the file's {} bytes", size, start, file.size()));
        read_notes(file, start, start + size, out.notes, seen);
    }
    return out;
}

void check_pvh_kernel(const XenElf& elf, const XenRules& rules, std::string_view what) {
    const auto refuse = [&](std::string_view problem) { throw Error{Fault::malformed, fmt::format("{}: {}", what, problem)}; };
    if (!elf.notes.phys32_entry)
        refuse(elf.notes.count == 0 ? "no Xen notes, want a kernel with the note PHYS32_ENTRY"
                                    : "no note PHYS32_ENTRY among its Xen notes, so it cannot start as PVH guest");
    if (*elf.notes.phys32_entry < elf.start || *elf.notes.phys32_entry > elf.end)
        refuse(fmt::format("note PHYS32_ENTRY is {:#x}, outside the image from {:#x} to {:#x}", *elf.notes.phys32_entry, elf.start, elf.end));
    if (elf.notes.bsd_symtab) refuse("note BSD_SYMTAB asks Xen to append the symbol table, which is not predicted");
    if (rules.virt_base_needed && elf.notes.paddr_offset && !elf.notes.virt_base)
        refuse("note PADDR_OFFSET without VIRT_BASE: Xen 4.17 does not start such a kernel");
}

void check_hvmloader(const XenElf& elf, std::string_view what) {
    if (elf.is_64) throw Error{Fault::malformed, fmt::format("{}: 4h EI_CLASS is 2, want 1: hvmloader is a 32-bit program", what)};
    if (elf.notes.count != 0)
        throw Error{Fault::malformed, fmt::format("{}: has Xen notes, want hvmloader, which has none: Xen would start it as a kernel", what)};
}

} // namespace sev::measure
