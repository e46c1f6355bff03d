// SPDX-License-Identifier: Apache-2.0
// For tests: preloaded, it sets a program's time of day without touching the machine's. The file that CLOCK_SHIM names holds, as a signed 64-bit
// number in the machine's byte order, by how many seconds; it can be changed while the program runs. Clocks that nobody can set are left as they are.
#include <cstdint>
#include <cstdlib>
#include <ctime>

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

namespace {

using ClockGettime = int(clockid_t, timespec*);
const volatile std::int64_t* set_by = nullptr;
ClockGettime* real = nullptr;

[[gnu::constructor]] void start() {
    if (real) return;
    real = reinterpret_cast<ClockGettime*>(::dlsym(RTLD_NEXT, "clock_gettime"));
    const char* const name = std::getenv("CLOCK_SHIM");
    const int fd = name ? ::open(name, O_RDONLY | O_CLOEXEC) : -1;
    void* const mapped = fd < 0 ? MAP_FAILED : ::mmap(nullptr, sizeof *set_by, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) std::abort(); // a test that sets no clock would pass for the wrong reason
    set_by = static_cast<const volatile std::int64_t*>(mapped);
    ::close(fd);
}

} // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* out) noexcept {
    start();
    const int result = real(clock, out);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) out->tv_sec += *set_by;
    return result;
}

int gettimeofday(timeval* out, void* /*zone*/) noexcept {
    timespec now{};
    const int result = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t* out) noexcept {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
}
