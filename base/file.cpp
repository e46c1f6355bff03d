// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/error.hpp"

namespace sev {
namespace {

std::string reason(int error_number) { return std::strerror(error_number); } // NOLINT(concurrency-mt-unsafe): glibc's is thread-safe

[[noreturn]] void system_error(const Path& path, std::string_view doing, int error_number) {
    throw Error{Fault::system, fmt::format("{}: {}: {}", printable(path.string(), 4096), doing, reason(error_number))};
}

/// Fills `out` from the start of the file, or says how many bytes there were.
std::size_t read_some(const Fd& fd, const Path& path, std::span<std::uint8_t> out) {
    std::size_t got = 0;
    while (got < out.size()) {
        const ssize_t n = ::read(fd.get(), out.data() + got, out.size() - got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) system_error(path, "read", errno);
        if (n == 0) break;
        got += static_cast<std::size_t>(n);
    }
    return got;
}

template <class Buffer>
Buffer read_into(const Path& path, std::size_t limit_bytes) {
    const OpenFile file = open_regular(path);
    if (file.size_bytes > limit_bytes)
        throw Error{Fault::malformed,
                    fmt::format("{}: {} bytes, more than the limit of {}", printable(path.string(), 4096), file.size_bytes, limit_bytes)};
    Buffer buffer(static_cast<std::size_t>(file.size_bytes));
    std::span<std::uint8_t> out;
    if constexpr (std::is_same_v<Buffer, SecretBytes>)
        out = buffer.writable();
    else
        out = buffer;
    if (read_some(file.fd, path, out) != out.size())
        throw Error{Fault::system, fmt::format("{}: shrank while it was read", printable(path.string(), 4096))};
    std::uint8_t beyond = 0;
    if (read_some(file.fd, path, {&beyond, 1}) != 0)
        throw Error{Fault::system, fmt::format("{}: grew while it was read", printable(path.string(), 4096))};
    return buffer;
}

Path directory_of(const Path& path) { return path.has_parent_path() ? path.parent_path() : Path{"."}; }

/// Best effort: a file system that cannot sync a directory still has the file.
void sync_directory(const Path& path) {
    const Fd directory{::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (directory) ::fsync(directory.get());
}

/// Writes a temporary file beside `target` and returns its path.
Path write_temporary(const Path& target, ByteView bytes, Visibility visibility) {
    if (!target.has_filename() || target.filename() == "." || target.filename() == "..")
        throw Error{Fault::usage, fmt::format("{}: not the name of a file", printable(target.string(), 4096))};
    Path temporary = directory_of(target) / fmt::format(".{}.{}", target.filename().string(), hex(random_array<8>()));
    const Fd fd{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, visibility == Visibility::secret ? 0600 : 0644)};
    if (!fd) system_error(target, "create", errno);
    const auto give_up = [&](std::string_view doing, int error_number) {
        ::unlink(temporary.c_str());
        system_error(target, doing, error_number);
    };
    std::size_t put = 0;
    while (put < bytes.size()) {
        const ssize_t n = ::write(fd.get(), bytes.data() + put, bytes.size() - put);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) give_up("write", errno);
        put += static_cast<std::size_t>(n);
    }
    if (::fsync(fd.get()) != 0) give_up("write", errno);
    return temporary;
}

/// Puts a temporary file in its place; the temporary name is gone afterwards either way.
void put_in_place(const Path& temporary, const Path& target, Existing existing) {
    if (existing == Existing::replace) {
        if (::rename(temporary.c_str(), target.c_str()) == 0) return;
        const int why = errno;
        ::unlink(temporary.c_str());
        system_error(target, "create", why);
    }
    const int result = ::link(temporary.c_str(), target.c_str());
    const int why = errno;
    ::unlink(temporary.c_str());
    if (result == 0) return;
    if (why == EEXIST)
        throw Error{Fault::usage, fmt::format("{}: exists already, and is left as it is", printable(target.string(), 4096)),
                    "name another file, or add --force to replace it"};
    system_error(target, "create", why);
}

} // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

Fd::~Fd() {
    if (fd_ >= 0) ::close(fd_);
}

OpenFile open_regular(const Path& path) {
    // O_NONBLOCK: opening a pipe without a writer must not wait; it means nothing for a regular file
    Fd fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)};
    if (!fd) system_error(path, "open", errno);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) system_error(path, "stat", errno);
    if (S_ISDIR(status.st_mode)) throw Error{Fault::system, fmt::format("{}: is a directory, want a file", printable(path.string(), 4096))};
    if (!S_ISREG(status.st_mode)) throw Error{Fault::system, fmt::format("{}: is not a regular file", printable(path.string(), 4096))};
    return {std::move(fd), static_cast<std::uint64_t>(status.st_size)};
}

Bytes read_file(const Path& path, std::size_t limit_bytes) { return read_into<Bytes>(path, limit_bytes); }

SecretBytes read_secret(const Path& path, std::size_t limit_bytes) { return read_into<SecretBytes>(path, limit_bytes); }

std::string read_text(const Path& path, std::size_t limit_bytes) {
    const Bytes bytes = read_file(path, limit_bytes);
    return std::string{as_text(bytes)};
}

FileDigest digest_file(const Path& path) {
    const OpenFile file = open_regular(path);
    Sha256 hash;
    Bytes chunk(std::size_t{256} << 10);
    std::uint64_t total = 0;
    for (;;) {
        const std::size_t got = read_some(file.fd, path, chunk);
        hash.update(ByteView{chunk}.first(got));
        total += got;
        if (got < chunk.size()) return {hash.finish(), total};
    }
}

MappedFile::MappedFile(const Path& path) {
    const OpenFile file = open_regular(path);
    if (file.size_bytes == 0) return;
    void* const data = ::mmap(nullptr, static_cast<std::size_t>(file.size_bytes), PROT_READ, MAP_PRIVATE, file.fd.get(), 0);
    if (data == MAP_FAILED) system_error(path, "map", errno);
    data_ = static_cast<const std::uint8_t*>(data);
    size_bytes_ = static_cast<std::size_t>(file.size_bytes);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_{std::exchange(other.data_, nullptr)}, size_bytes_{std::exchange(other.size_bytes_, 0)} {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    return *this;
}

MappedFile::~MappedFile() {
    if (data_) ::munmap(const_cast<std::uint8_t*>(data_), size_bytes_);
}

void write_file(const Path& path, ByteView bytes, Visibility visibility, Existing existing) {
    put_in_place(write_temporary(path, bytes, visibility), path, existing);
    sync_directory(path);
}

FileSet::~FileSet() {
    for (const Staged& file : staged_) ::unlink(file.temporary.c_str());
}

void FileSet::stage(const Path& path, ByteView bytes, Visibility visibility) {
    // said before anything is written, though only put_in_place can say it for certain
    struct stat status {};
    if (existing_ == Existing::refuse && ::lstat(path.c_str(), &status) == 0)
        throw Error{Fault::usage, fmt::format("{}: exists already, and is left as it is", printable(path.string(), 4096)),
                    "name another file, or add --force to replace it"};
    staged_.push_back({path, write_temporary(path, bytes, visibility)});
}

void FileSet::commit() {
    std::size_t done = 0;
    try {
        for (; done < staged_.size(); ++done) put_in_place(staged_[done].temporary, staged_[done].target, existing_);
    } catch (...) {
        if (existing_ == Existing::refuse)
            for (std::size_t i = 0; i < done; ++i) ::unlink(staged_[i].target.c_str());
        throw;
    }
    for (const Staged& file : staged_) sync_directory(file.target);
    staged_.clear();
}

} // namespace sev
