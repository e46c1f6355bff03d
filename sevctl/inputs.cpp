// SPDX-License-Identifier: Apache-2.0
#include "sevctl/inputs.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace sev::cli {
namespace {

/// Whether something of that name exists. Throws Error{Fault::system} when that cannot be known.
bool exists(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG) return false;
    throw Error{Fault::system, fmt::format("{}: open: {}", shown(path), std::strerror(errno))};
}

/// Whether text can only have been meant as a path: it has a character that base64 has not, or starts as paths do.
bool looks_like_path(std::string_view text) {
    return text.starts_with('/') || text.starts_with('.') ||
           std::ranges::any_of(text, [](unsigned char c) { return !std::isalnum(c) && c != '+' && c != '/' && c != '=' && !std::isspace(c); });
}

std::string want(std::initializer_list<std::size_t> sizes) {
    std::string out;
    for (const std::size_t size : sizes) out += fmt::format("{}{}", out.empty() ? "" : " or ", size);
    return out;
}

/// The text of an argument that names no file, decoded.
Bytes decode(const Argument& argument, const std::string& text, std::initializer_list<std::size_t> sizes) {
    auto decoded = try_unbase64(text);
    if (decoded && std::ranges::find(sizes, decoded->size()) != sizes.end()) return std::move(*decoded);
    if (looks_like_path(text))
        throw Error{Fault::usage, fmt::format("{}: {}: no such file, and not base64 of {} bytes either", argument.name, shown(text), want(sizes))};
    // what may be a mistyped key is not repeated
    const std::string subject =
        argument.secret ? std::string{argument.name} : fmt::format("{}: {}", argument.name, text.empty() ? "empty" : printable(text));
    const std::string found = decoded ? fmt::format("base64 of {} bytes", decoded->size()) : std::string{"neither a file nor base64"};
    if (decoded) OPENSSL_cleanse(decoded->data(), decoded->size());
    throw Error{Fault::usage, fmt::format("{}: {}, want a file or base64 of {} bytes", subject, found, want(sizes))};
}

void check_size(const std::string& file, std::size_t got, std::initializer_list<std::size_t> sizes) {
    if (std::ranges::find(sizes, got) == sizes.end())
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, want {}", shown(file), got, want(sizes))};
}

} // namespace

std::string shown(const Path& path) { return path.empty() ? "(empty path)" : printable(path.string(), 4096); }

Bytes input_bytes(const Arguments& arguments, std::string_view name) {
    return read_file(arguments.text(name), static_cast<std::size_t>(arguments.argument(name).limit_bytes));
}

Bytes file_or_base64(const Arguments& arguments, std::string_view name, std::initializer_list<std::size_t> sizes) {
    const std::string& text = arguments.text(name);
    if (!exists(text)) return decode(arguments.argument(name), text, sizes);
    Bytes bytes = input_bytes(arguments, name);
    check_size(text, bytes.size(), sizes);
    return bytes;
}

SecretBytes secret_file_or_base64(const Arguments& arguments, Console& console, std::string_view name, std::size_t size_bytes) {
    const std::string& text = arguments.text(name);
    if (exists(text)) {
        SecretBytes bytes = read_secret(text, static_cast<std::size_t>(arguments.argument(name).limit_bytes));
        check_size(text, bytes.size(), {size_bytes});
        return bytes;
    }
    Bytes decoded = decode(arguments.argument(name), text, {size_bytes});
    console.warn(fmt::format("{}: a key on a command line can be seen by other users of this machine; name a file instead", name));
    SecretBytes out{ByteView{decoded}};
    OPENSSL_cleanse(decoded.data(), decoded.size());
    return out;
}

Firmware::Firmware(const Arguments& arguments, std::string_view name) : path_{arguments.text(name)} {
    constexpr std::size_t block_bytes = 4096;
    const std::size_t limit = static_cast<std::size_t>(arguments.argument(name).limit_bytes);
    const OpenFile file = open_regular(path_);
    if (file.size_bytes > limit)
        throw Error{Fault::malformed,
                    fmt::format("{}: {} bytes, more than the {} that a flash image may have", shown(path_), file.size_bytes, limit)};
    size_bytes_ = static_cast<std::size_t>(file.size_bytes);
    if (size_bytes_ == 0 || size_bytes_ % block_bytes != 0)
        throw Error{Fault::malformed,
                    fmt::format("{}: {} bytes, want a flash image: a multiple of {} bytes, and not empty", shown(path_), size_bytes_, block_bytes)};
    // A copy, as the file may shrink meanwhile; not zeroed first and, where the kernel gives them, in large pages: half of what the copy costs.
    constexpr std::size_t large_page_bytes = std::size_t{2} << 20;
    data_.reset(
        static_cast<std::uint8_t*>(std::aligned_alloc(large_page_bytes, (size_bytes_ + large_page_bytes - 1) / large_page_bytes * large_page_bytes)));
    if (!data_) throw Error{Fault::system, fmt::format("{}: no memory for {} bytes", shown(path_), size_bytes_)};
    ::madvise(data_.get(), size_bytes_, MADV_HUGEPAGE);
    for (std::size_t done = 0; done < size_bytes_;) {
        const ssize_t got = ::read(file.fd.get(), data_.get() + done, size_bytes_ - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error{Fault::system, fmt::format("{}: read: {}", shown(path_), std::strerror(errno))};
        if (got == 0) throw Error{Fault::malformed, fmt::format("{}: shrank while it was read", shown(path_))};
        done += static_cast<std::size_t>(got);
    }
}

FileDigest digest_input(const Arguments& arguments, std::string_view name) {
    const Argument& argument = arguments.argument(name);
    const Path path{arguments.text(name)};
    if (path == "/dev/null" && argument.content == Content::any) return {sha256({}), 0};
    const std::uint64_t size = open_regular(path).size_bytes;
    if (size > argument.limit_bytes)
        throw Error{Fault::malformed, fmt::format("{}: {} bytes, more than the limit of {}", shown(path), size, argument.limit_bytes)};
    const FileDigest digest = digest_file(path);
    if (digest.size_bytes == 0 && argument.content != Content::any)
        throw Error{Fault::malformed, fmt::format("{}: 0 bytes, want at least 1", shown(path))};
    return digest;
}

void add_ca(psp::Chain& chain, const Arguments& arguments, std::string_view name) {
    const std::string file = shown(arguments.text(name));
    const psp::Chain ca = psp::parse_chain(input_bytes(arguments, name), file);
    if (!ca.ask || !ca.ark || ca.pek) throw Error{Fault::malformed, fmt::format("{}: is no CA chain, want ASK and ARK", file)};
    chain.ask = ca.ask;
    chain.ark = ca.ark;
}

void check_output(const Path& path) {
    struct stat status {};
    if (path.empty()) throw Error{Fault::usage, "an output file has an empty name"};
    if (::stat(path.c_str(), &status) != 0) return; // whether it can be made, making it will say
    if (S_ISDIR(status.st_mode)) throw Error{Fault::usage, fmt::format("{}: is a directory, want the name of a file to write", shown(path))};
    if (!S_ISREG(status.st_mode)) throw Error{Fault::usage, fmt::format("{}: is no regular file, want the name of a file to write", shown(path))};
}

void write_output(Console& console, const Path& path, ByteView bytes, Visibility visibility, Existing existing) {
    if (path == "-") return console.binary(bytes);
    check_output(path);
    write_file(path, bytes, visibility, existing);
}

json::Value result_of(const Arguments& arguments) {
    std::string name{arguments.command().name};
    std::ranges::replace(name, ' ', '-');
    return {{"format", "xen-sev/sevctl-" + name}, {"version", 1}};
}

json::Value checks_as_json(const std::vector<psp::Check>& checks) {
    json::Value out = json::Value::array();
    for (const psp::Check& check : checks) out.push_back({{"check", check.check}, {"passed", check.passed}, {"detail", check.detail}});
    return out;
}

} // namespace sev::cli
