// SPDX-License-Identifier: Apache-2.0
// lab_registers SECONDS: fills the vector registers, gives the processor away for a while, and looks whether they came back as they were. An
// emulator or a hypervisor that mixes up the registers of two guests, or of two programs, makes every other test of the lab worthless now and then.
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include <ctime>
#include <sys/syscall.h>

namespace {

using Registers = std::array<std::array<std::uint64_t, 2>, 16>;
using Clock = std::chrono::steady_clock;

// System calls without a library's help: nothing between filling and looking may use these registers.
[[gnu::noinline]] void held_over(const Registers& in, Registers& out, long call, const struct timespec* first) {
    long result = call;
    asm volatile("movdqu 0x00(%[in]), %%xmm0\n\tmovdqu 0x10(%[in]), %%xmm1\n\tmovdqu 0x20(%[in]), %%xmm2\n\tmovdqu 0x30(%[in]), %%xmm3\n\t"
                 "movdqu 0x40(%[in]), %%xmm4\n\tmovdqu 0x50(%[in]), %%xmm5\n\tmovdqu 0x60(%[in]), %%xmm6\n\tmovdqu 0x70(%[in]), %%xmm7\n\t"
                 "movdqu 0x80(%[in]), %%xmm8\n\tmovdqu 0x90(%[in]), %%xmm9\n\tmovdqu 0xa0(%[in]), %%xmm10\n\tmovdqu 0xb0(%[in]), %%xmm11\n\t"
                 "movdqu 0xc0(%[in]), %%xmm12\n\tmovdqu 0xd0(%[in]), %%xmm13\n\tmovdqu 0xe0(%[in]), %%xmm14\n\tmovdqu 0xf0(%[in]), %%xmm15\n\t"
                 "syscall\n\t"
                 "movdqu %%xmm0, 0x00(%[out])\n\tmovdqu %%xmm1, 0x10(%[out])\n\tmovdqu %%xmm2, 0x20(%[out])\n\tmovdqu %%xmm3, 0x30(%[out])\n\t"
                 "movdqu %%xmm4, 0x40(%[out])\n\tmovdqu %%xmm5, 0x50(%[out])\n\tmovdqu %%xmm6, 0x60(%[out])\n\tmovdqu %%xmm7, 0x70(%[out])\n\t"
                 "movdqu %%xmm8, 0x80(%[out])\n\tmovdqu %%xmm9, 0x90(%[out])\n\tmovdqu %%xmm10, 0xa0(%[out])\n\tmovdqu %%xmm11, 0xb0(%[out])\n\t"
                 "movdqu %%xmm12, 0xc0(%[out])\n\tmovdqu %%xmm13, 0xd0(%[out])\n\tmovdqu %%xmm14, 0xe0(%[out])\n\tmovdqu %%xmm15, 0xf0(%[out])\n\t"
                 : "+a"(result)
                 : "D"(first), "S"(0L), [in] "r"(&in), [out] "r"(&out)
                 : "rcx", "r11", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                   "xmm13", "xmm14", "xmm15");
}

} // namespace

int main(int argc, char** argv) {
    const auto end = Clock::now() + std::chrono::seconds{argc == 2 ? std::atoi(argv[1]) : 1};
    std::mt19937_64 random{std::random_device{}()};
    unsigned long rounds = 0, bad = 0;
    while (Clock::now() < end) {
        Registers in{}, out{};
        for (auto& words : in) words = {random(), random()};
        const struct timespec pause {0, static_cast<long>(random() % 2'000'000)};
        if (rounds % 2 == 0) held_over(in, out, SYS_nanosleep, &pause);
        else held_over(in, out, SYS_sched_yield, nullptr);
        bad += in != out;
        ++rounds;
    }
    std::printf("REGISTERS %lu times looked at, %lu times wrong\n", rounds, bad);
    return bad == 0 && rounds > 0 ? 0 : 1;
}
