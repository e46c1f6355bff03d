// SPDX-License-Identifier: Apache-2.0
#include "attest/secret_archive.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev::attest {
namespace {

constexpr std::size_t limit_bytes = 1U << 20;
constexpr std::size_t name_limit_bytes = 255;
constexpr std::size_t page = 4096;
constexpr std::size_t header_size = 110;
constexpr std::uint32_t mode_directory = 0040700, mode_file = 0100400;

/// One member before it is laid out: a folder, a file, or the trailer.
struct Member {
    std::string name;
    std::uint32_t mode, links;
    ByteView data;
};

constexpr std::size_t aligned(std::size_t size, std::size_t to) { return (size + to - 1) / to * to; }

std::size_t size_of(const Member& member) {
    return aligned(header_size + member.name.size() + 1, 4) + aligned(member.data.size(), 4);
}

bool name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '/';
}

/// Every folder on the way to `name`, outermost first.
std::vector<std::string> folders_of(const std::string& name) {
    std::vector<std::string> out;
    for (std::size_t at = name.find('/'); at != std::string::npos; at = name.find('/', at + 1)) out.push_back(name.substr(0, at));
    return out;
}

/// Writes one member at the front of `out`, whose bytes are zero; returns what is left.
std::span<std::uint8_t> put(std::span<std::uint8_t> out, const Member& member, std::size_t inode) {
    // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize (with its NUL), check
    const std::string header = fmt::format("070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}", inode, member.mode,
                                           0, 0, member.links, 0, member.data.size(), 0, 0, 0, 0, member.name.size() + 1, 0);
    require(header.size() == header_size, "a newc header has 110 bytes");
    std::ranges::copy(header, out.begin());
    std::ranges::copy(member.name, out.begin() + header_size);
    std::ranges::copy(member.data, out.subspan(aligned(header_size + member.name.size() + 1, 4)).begin());
    return out.subspan(size_of(member));
}

} // namespace

std::string checked_secret_file_name(std::string name) {
    const auto refuse = [&](std::string_view problem) {
        throw Error{Fault::usage, fmt::format("secret file name \"{}\": {}", printable(name), problem)};
    };
    if (name.empty() || name.size() > name_limit_bytes) refuse(fmt::format("{} bytes, want 1 to {}", name.size(), name_limit_bytes));
    if (!std::ranges::all_of(name, name_character)) refuse("want letters, digits and . _ - / only");
    for (std::size_t at = 0; at <= name.size();) {
        const std::size_t end = std::min(name.find('/', at), name.size());
        const std::string_view part = std::string_view{name}.substr(at, end - at);
        if (part.empty() || part == "." || part == "..") refuse("has an empty, \".\" or \"..\" part, or begins or ends with \"/\"");
        at = end + 1;
    }
    return name;
}

SecretBytes build_secret_archive(std::span<const SecretFile> files) {
    if (files.empty()) throw Error{Fault::usage, "secret archive: no file, want at least one"};
    std::vector<Member> members;
    std::set<std::string> folders, names;
    for (const SecretFile& file : files) {
        checked_secret_file_name(file.name);
        if (!names.insert(file.name).second) throw Error{Fault::usage, fmt::format("secret archive: file \"{}\" stands twice", file.name)};
        for (const std::string& folder : folders_of(file.name))
            if (folders.insert(folder).second) members.push_back({.name = folder, .mode = mode_directory, .links = 2, .data = {}});
        members.push_back({.name = file.name, .mode = mode_file, .links = 1, .data = file.data.reveal()});
    }
    for (const std::string& name : names)
        if (folders.contains(name)) throw Error{Fault::usage, fmt::format("secret archive: \"{}\" is a file and a folder", name)};
    members.push_back({.name = "TRAILER!!!", .mode = 0, .links = 1, .data = {}});
    std::size_t size = 0;
    for (const Member& member : members)
        if (member.data.size() > limit_bytes || (size += size_of(member)) > limit_bytes)
            throw Error{Fault::usage, fmt::format("secret archive: more than the limit of {} bytes", limit_bytes)};
    SecretBytes archive{aligned(size, page)};
    auto rest = archive.writable();
    for (std::size_t i = 0; i < members.size(); ++i) rest = put(rest, members[i], members[i].name == "TRAILER!!!" ? 0 : i + 1);
    return archive;
}

} // namespace sev::attest
