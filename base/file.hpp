// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "base/bytes.hpp"
#include "base/crypto.hpp"
#include "base/secret.hpp"

namespace sev {

using Path = std::filesystem::path;

/// Owned file descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) noexcept : fd_{fd} {}
    Fd(Fd&& other) noexcept : fd_{std::exchange(other.fd_, -1)} {}
    Fd& operator=(Fd&& other) noexcept;
    ~Fd();
    int get() const noexcept { return fd_; }
    /// Gives the descriptor away.
    int release() noexcept { return std::exchange(fd_, -1); }
    explicit operator bool() const noexcept { return fd_ >= 0; }

private:
    int fd_ = -1;
};

/// Opens a regular file for reading and says its size. Throws Error{Fault::system} that names the path and the reason: absent,
/// no permission, a directory, a device or pipe.
struct OpenFile {
    Fd fd;
    std::uint64_t size_bytes;
};
OpenFile open_regular(const Path& path);

/// Reads a whole regular file. Error{Fault::malformed} "PATH: N bytes, more than the limit of M" above the limit.
Bytes read_file(const Path& path, std::size_t limit_bytes);
std::string read_text(const Path& path, std::size_t limit_bytes);
/// Same, into memory that is wiped.
SecretBytes read_secret(const Path& path, std::size_t limit_bytes);

/// SHA-256 of a regular file of any size, in bounded memory.
struct FileDigest {
    Digest sha256;
    std::uint64_t size_bytes;
};
FileDigest digest_file(const Path& path);

/// A regular file mapped read-only. An empty file gives an empty view.
class MappedFile {
public:
    explicit MappedFile(const Path& path);
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();
    ByteView bytes() const noexcept { return {data_, size_bytes_}; }

private:
    const std::uint8_t* data_ = nullptr;
    std::size_t size_bytes_ = 0;
};

enum class Existing { refuse, replace };
enum class Visibility { secret, readable }; // mode 0600, or 0644 less the umask

/// Writes a file so that it is there whole or not at all: a temporary file beside it, fsync, then link (refuse) or rename (replace).
/// Error{Fault::usage} "PATH exists already" with a hint when `existing` is refuse; Error{Fault::system} otherwise; in both cases nothing is left
/// behind.
void write_file(const Path& path, ByteView bytes, Visibility visibility, Existing existing);

/// Several files that appear together: contents are all staged beside their targets first, then committed one by one in order;
/// when a commit fails, those already committed are removed again (existing ones are never destroyed under Existing::refuse).
class FileSet {
public:
    explicit FileSet(Existing existing) : existing_{existing} {}
    FileSet(const FileSet&) = delete;
    FileSet& operator=(const FileSet&) = delete;
    ~FileSet();
    void stage(const Path& path, ByteView bytes, Visibility visibility);
    void commit();

private:
    struct Staged {
        Path target, temporary;
    };
    Existing existing_;
    std::vector<Staged> staged_;
};

} // namespace sev
