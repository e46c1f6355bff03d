// SPDX-License-Identifier: Apache-2.0
#include "psp/emulator/program/executable.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.hpp"
#include "base/error.hpp"

namespace sev::psp::emulator {
namespace {

constexpr std::size_t head_bytes = 64U << 10; // program headers and the interpreter's name are at the front of a file, in practice
constexpr unsigned script_depth = 4;          // as the kernel
constexpr std::string_view other_ways =
    "a real character device serves every program: sev-emulator cuse (as root); or use a dynamically linked build of it";

[[noreturn]] void refuse(const Path& program, std::string_view problem, std::string_view hint = other_ways) {
    throw Error{Fault::usage, fmt::format("{}: {}", printable(program.string(), 4096), problem), std::string{hint}};
}

Bytes head_of(const Path& program) {
    const OpenFile file = open_regular(program);
    Bytes head(static_cast<std::size_t>(std::min<std::uint64_t>(file.size_bytes, head_bytes)));
    const ssize_t got = ::pread(file.fd.get(), head.data(), head.size(), 0);
    if (got != static_cast<ssize_t>(head.size()))
        throw Error{Fault::system, fmt::format("{}: cannot be read whole", printable(program.string(), 4096))};
    return head;
}

std::string interpreter_of_script(ByteView head) {
    std::string_view line = as_text(head.subspan(2));
    line = line.substr(0, line.find('\n'));
    const auto start = line.find_first_not_of(" \t");
    if (start == std::string_view::npos) return {};
    line.remove_prefix(start);
    return std::string{line.substr(0, line.find_first_of(" \t\r"))};
}

void check_elf(const Path& program, ByteView head) {
    const std::string what = printable(program.string(), 4096);
    Cursor elf{head, what};
    const ByteView ident = elf.take(16, "e_ident");
    elf.le16("e_type");
    const std::uint16_t machine = elf.le16("e_machine");
    if (ident[4] != 2 || ident[5] != 1 || machine != 62) refuse(program, "is no x86-64 program, as the preloaded library is");
    elf.take(12, "e_version, e_entry");
    const std::uint64_t table = elf.le64("e_phoff");
    elf.take(14, "e_shoff, e_flags, e_ehsize");
    const std::size_t entry_size = elf.le16("e_phentsize"), count = elf.le16("e_phnum");
    if (entry_size != 56 || count == 0 || count > 512 || table > head.size() || head.size() - table < count * entry_size)
        throw Error{Fault::malformed, fmt::format("{}: {} program headers of {} bytes at offset {}, want 1 to 512 of 56 bytes within the first {}",
                                                  what, count, entry_size, table, head.size())};
    for (std::size_t i = 0; i < count; ++i) {
        Cursor entry{head.subspan(static_cast<std::size_t>(table) + i * entry_size, entry_size), what + ": program header"};
        if (entry.le32("p_type") != 3) continue; // PT_INTERP
        entry.take(4, "p_flags");
        const std::uint64_t offset = entry.le64("p_offset");
        entry.take(16, "p_vaddr, p_paddr");
        const std::uint64_t length = entry.le64("p_filesz");
        if (length == 0 || length > 4096 || offset > head.size() || head.size() - offset < length)
            throw Error{Fault::malformed, fmt::format("{}: interpreter's name of {} bytes at offset {}, beyond the file's first {}", what, length,
                                                      offset, head.size())};
        const std::string_view name = as_text(head.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length) - 1));
        if (name.find("musl") != std::string_view::npos) refuse(program, "is linked to musl, and the preloaded library to glibc");
        return;
    }
    refuse(program, "is statically linked: a library cannot be preloaded into it");
}

void check(const Path& program, unsigned depth) {
    struct stat status {};
    if (::stat(program.c_str(), &status) != 0) refuse(program, std::strerror(errno), "");
    if (!S_ISREG(status.st_mode)) refuse(program, "is no regular file", "");
    if (::access(program.c_str(), X_OK) != 0) refuse(program, "is not executable", "chmod +x, or name the interpreter");
    if (status.st_mode & (S_ISUID | S_ISGID))
        refuse(program, "is set-user-ID or set-group-ID: the system's loader does not preload into it", "run a copy without these bits");
    if (::access(program.c_str(), R_OK) != 0) return; // cannot be looked into: let it try
    const Bytes head = head_of(program);
    const std::string_view text = as_text(head);
    if (text.starts_with("\x7F" "ELF")) return check_elf(program, head);
    if (text.starts_with("#!")) {
        const std::string interpreter = interpreter_of_script(head);
        if (interpreter.empty() || depth == 0) refuse(program, "is a script without a usable interpreter line", "");
        return check(interpreter, depth - 1);
    }
}

} // namespace

Path find_program(const std::string& name) {
    if (name.empty()) throw Error{Fault::usage, "the program's name is empty"};
    if (name.find('/') != std::string::npos) return name;
    const char* const list = std::getenv("PATH");
    std::string_view rest = list ? list : "/usr/bin:/bin";
    while (!rest.empty()) {
        const auto end = std::min(rest.find(':'), rest.size());
        const Path candidate = Path{end == 0 ? std::string{"."} : std::string{rest.substr(0, end)}} / name;
        rest.remove_prefix(std::min(end + 1, rest.size()));
        struct stat status {};
        if (::stat(candidate.c_str(), &status) == 0 && S_ISREG(status.st_mode) && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    throw Error{Fault::usage, fmt::format("{}: no such program in PATH", printable(name))};
}

void check_preloadable(const Path& program) { check(program, script_depth); }

} // namespace sev::psp::emulator
