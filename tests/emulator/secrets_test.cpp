// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include <fcntl.h>
#include <unistd.h>

#include "psp/emulator/memory_cipher.hpp"
#include "tests/emulator/host.hpp"

// GCC's way of saying it, and Clang's
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

using namespace sev;
using namespace sev::test;
namespace emulator = sev::psp::emulator;

namespace {

/// Byte `i` of the key drawn for `purpose`: computed where it is needed, so that the test itself keeps no copy that a scan would find.
std::uint8_t key_byte(std::string_view purpose, std::size_t i) {
    std::uint32_t state = 0x9E37'79B9U * static_cast<std::uint32_t>(i + 1);
    for (const char c : purpose) state = (state ^ static_cast<std::uint8_t>(c)) * 0x0100'0193U;
    return static_cast<std::uint8_t>(state >> 16);
}

/// How often a 16-byte key stands in the writable memory of this process.
std::size_t times_in_memory(std::string_view purpose) {
    std::ifstream maps{"/proc/self/maps"};
    const Fd memory{::open("/proc/self/mem", O_RDONLY | O_CLOEXEC)};
    REQUIRE(memory);
    std::size_t found = 0;
    const std::uint8_t first = key_byte(purpose, 0);
    std::string line;
    static Bytes chunk(std::size_t{1} << 20); // wiped below, or the scan would find its own traces
    while (std::getline(maps, line)) {
        unsigned long begin = 0, end = 0;
        char mode[5] = {};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode) != 3 || mode[0] != 'r' || mode[1] != 'w') continue;
        // all but the chunk itself, which may lie in the heap beside what is looked for
        const auto own = reinterpret_cast<unsigned long>(chunk.data());
        for (unsigned long at = begin; at < end;) {
            if (at >= own && at < own + chunk.size()) {
                at = own + chunk.size();
                continue;
            }
            const unsigned long limit = at < own && own < end ? own : end;
            const std::size_t want = std::min<std::size_t>(chunk.size(), limit - at);
            const ssize_t got = ::pread(memory.get(), chunk.data(), want, static_cast<off_t>(at));
            for (ssize_t i = 0; i + 16 <= got; ++i) {
                if (chunk[static_cast<std::size_t>(i)] != first) continue;
                std::size_t same = 1;
                while (same < 16 && chunk[static_cast<std::size_t>(i) + same] == key_byte(purpose, same)) ++same;
                if (same == 16) ++found;
            }
            OPENSSL_cleanse(chunk.data(), chunk.size());
            at += at + want < limit ? want - 15 : want; // a key may lie across two pieces
        }
    }
    return found;
}

} // namespace

static_assert(!std::is_copy_constructible_v<emulator::Vek> && !std::is_copy_constructible_v<emulator::MemoryKey>);
static_assert(!std::is_copy_constructible_v<emulator::ChipSecret> && !std::is_copy_constructible_v<emulator::MemoryCipher>);

TEST_CASE("keys in this process's memory: TEK and TIK until LAUNCH_FINISH, the VEK until DECOMMISSION or SHUTDOWN, and nowhere afterwards") {
#ifdef SANITIZED
    fmt::print("SKIPPED: a scan of the memory of a sanitized process: its shadow has terabytes, and its quarantine keeps what was freed\n");
    return;
#endif
    Options options;
    options.random = [](std::span<std::uint8_t> out, std::string_view purpose) {
        for (std::size_t i = 0; i < out.size(); ++i) out[i] = key_byte(purpose, i);
    };
    Host host{"epyc-3151", options};
    host.start();
    for (const bool by_shutdown : {false, true}) {
        CAPTURE(by_shutdown);
        host.put(guest_at, pattern(0x9000, 1));
        const std::uint32_t guest = host.launch(0);
        REQUIRE(host.activate(guest, by_shutdown ? 10 : 9) == Status::success);
        REQUIRE(host.update_data(guest, guest_at, 0x9000) == Status::success);
        REQUIRE(host.measure(guest) == Status::success);
        for (const char* purpose : {"TEK", "TIK", "VEK", "VEK tweak"}) CHECK_MESSAGE(times_in_memory(purpose) > 0, purpose);
        REQUIRE(host.on_guest(CommandId::launch_finish, guest) == Status::success);
        CHECK(times_in_memory("TEK") == 0);
        CHECK(times_in_memory("TIK") == 0);
        CHECK(times_in_memory("VEK") > 0);
        CHECK(host.guest_view(guest, guest_at, 0x9000) == pattern(0x9000, 1));
        if (by_shutdown) {
            REQUIRE(host.command(CommandId::shutdown) == Status::success);
        } else {
            REQUIRE(host.on_guest(CommandId::deactivate, guest) == Status::success);
            REQUIRE(host.on_guest(CommandId::decommission, guest) == Status::success);
        }
        CHECK(times_in_memory("VEK") == 0);
        CHECK(times_in_memory("VEK tweak") == 0);
    }
}
