// SPDX-License-Identifier: Apache-2.0
#include "base/file.hpp"

#include <csignal>

#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/support.hpp"

using namespace sev;
namespace fs = std::filesystem;

namespace {
std::string message_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "no error";
}
std::size_t entries(const Path& directory) {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator{directory}, fs::directory_iterator{}));
}
} // namespace

TEST_CASE("write_file: secret files are 0600, whole, and never over an existing one") {
    const test::TemporaryDirectory dir;
    const Path path = dir / "tik.bin";
    write_file(path, as_bytes("first"), Visibility::secret, Existing::refuse);
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(message_of([&] { write_file(path, as_bytes("second"), Visibility::secret, Existing::refuse); }) ==
          path.string() + ": exists already, and is left as it is");
    CHECK(read_text(path, 100) == "first");
    write_file(path, as_bytes("third"), Visibility::secret, Existing::replace);
    CHECK(read_text(path, 100) == "third");
    CHECK(entries(dir.path()) == 1);
}

TEST_CASE("write_file: a symbolic link in the way is not followed") {
    const test::TemporaryDirectory dir;
    write_file(dir / "victim", as_bytes("untouched"), Visibility::readable, Existing::refuse);
    fs::create_symlink(dir / "victim", dir / "link");
    CHECK_THROWS_AS(write_file(dir / "link", as_bytes("x"), Visibility::secret, Existing::refuse), Error);
    write_file(dir / "link", as_bytes("x"), Visibility::secret, Existing::replace);
    CHECK(read_text(dir / "victim", 100) == "untouched");
}

TEST_CASE("write_file: a full disk leaves nothing behind") {
    const test::TemporaryDirectory dir;
    // The kernel refuses to let the file grow, as a full disk would.
    struct rlimit old_limit {};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit small {.rlim_cur = 1000, .rlim_max = old_limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string message = message_of([&] { write_file(dir / "big", Bytes(5000), Visibility::readable, Existing::refuse); });
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    CHECK(message == (dir / "big").string() + ": write: File too large");
    CHECK(entries(dir.path()) == 0);
}

TEST_CASE("FileSet: all files or none") {
    const test::TemporaryDirectory dir;
    {
        FileSet files{Existing::refuse};
        files.stage(dir / "a", as_bytes("a"), Visibility::secret);
        files.stage(dir / "b", as_bytes("b"), Visibility::readable);
        CHECK_FALSE(fs::exists(dir / "a"));
        files.commit();
    }
    CHECK(read_text(dir / "b", 10) == "b");
    CHECK(entries(dir.path()) == 2);
    {
        FileSet files{Existing::refuse};
        files.stage(dir / "c", as_bytes("c"), Visibility::secret);
        CHECK_THROWS_AS(files.stage(dir / "a", as_bytes("again"), Visibility::secret), Error);
    }
    CHECK_FALSE(fs::exists(dir / "c"));
    {
        FileSet files{Existing::refuse};
        files.stage(dir / "c", as_bytes("c"), Visibility::secret);
        files.stage(dir / "d", as_bytes("d"), Visibility::secret);
        write_file(dir / "d", as_bytes("somebody else"), Visibility::readable, Existing::refuse);
        CHECK_THROWS_AS(files.commit(), Error);
    }
    CHECK_FALSE(fs::exists(dir / "c"));
    CHECK(read_text(dir / "d", 100) == "somebody else");
    CHECK(entries(dir.path()) == 3);
}

TEST_CASE("reading: what is no readable regular file is refused in one line that names it") {
    const test::TemporaryDirectory dir;
    const std::string name = (dir / "x").string();
    CHECK(message_of([&] { read_file(name, 10); }) == name + ": open: No such file or directory");
    CHECK(message_of([&] { read_file(dir.path(), 10); }) == dir.path().string() + ": is a directory, want a file");
    REQUIRE(::mkfifo(name.c_str(), 0600) == 0);
    CHECK(message_of([&] { read_file(name, 10); }) == name + ": is not a regular file");
    CHECK(message_of([&] { MappedFile{"/dev/zero"}; }) == "/dev/zero: is not a regular file");
    write_file(dir / "big", Bytes(11), Visibility::readable, Existing::refuse);
    CHECK(message_of([&] { read_file(dir / "big", 10); }) == (dir / "big").string() + ": 11 bytes, more than the limit of 10");
}

TEST_CASE("reading: whole file, mapped and digested agree; empty is empty") {
    const test::TemporaryDirectory dir;
    Bytes content(700'001);
    for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::uint8_t>(i * 7 + i / 251);
    write_file(dir / "data", content, Visibility::readable, Existing::refuse);
    CHECK(read_file(dir / "data", 1 << 20) == content);
    const MappedFile mapped{dir / "data"};
    CHECK(std::ranges::equal(mapped.bytes(), content));
    const auto digest = digest_file(dir / "data");
    CHECK(digest.sha256 == sha256(content));
    CHECK(digest.size_bytes == content.size());
    write_file(dir / "empty", {}, Visibility::readable, Existing::refuse);
    CHECK(MappedFile{dir / "empty"}.bytes().empty());
    CHECK(read_file(dir / "empty", 0).empty());
    CHECK(hex(digest_file(dir / "empty").sha256) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
