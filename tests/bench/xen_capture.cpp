// SPDX-License-Identifier: Apache-2.0
// Capture of a paused PVH guest as sevd does it (every predicted page mapped, held against the prediction, copied for the PSP and hashed) against a
// bare loop that maps the same pages and hashes them with OpenSSL, in turns in one run.
// bench_xen_capture KERNEL ACPI-REFERENCE [ROUNDS]: over ordinary memory, with a ramdisk of 64 MiB; exit 77: no such kernel.
// bench_xen_capture --domid N KEEPER REFERENCES [ROUNDS]: a domain of this Xen host, which stays as it is.
#include <bit>
#include <cstring>
#include <map>

#include <dlfcn.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crypto.hpp"
#include "base/error.hpp"
#include "launch/xen/domain_guest.hpp"
#include "ovmf-measure/xen/config_readers.hpp"
#include "psp/physical_memory.hpp"
#include "tests/bench/bench.hpp"

namespace {

using namespace sev;
using namespace sev::launch::xen;

constexpr double want_rate = 0.8;
constexpr std::size_t ramdisk_bytes = 64U << 20;

[[noreturn]] void fail(std::string_view what) {
    fmt::print(stderr, "xen_capture: {}: {}\n", what, std::strerror(errno));
    std::exit(1);
}

struct Range {
    std::uint64_t gfn, pages;
};

/// Pages mapped, read and unmapped with nothing around it. Returns each range's SHA-256.
template <class Map, class Unmap>
std::vector<Digest> bare(const std::vector<Range>& ranges, const Map& map, const Unmap& unmap) {
    std::vector<Digest> out(ranges.size());
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        void* const at = map(ranges[i]);
        unsigned size = 0;
        if (EVP_Digest(at, ranges[i].pages * page_bytes, out[i].data(), &size, EVP_sha256(), nullptr) != 1) std::abort();
        unmap(at, ranges[i].pages);
    }
    return out;
}

/// A domain's questions, answered once from the host and then at once: they cost the same however large the guest is. Never destroyed from here.
class Remembered final : public Domain {
public:
    Remembered(DomainState state, Bytes context) : state_{std::move(state)}, context_{std::move(context)} {}
    DomainState state() override { return state_; }
    std::optional<DomainState> find() override { return state_; }
    std::string config() override { return {}; }
    Bytes context() override { return context_; }
    std::optional<ModulePlace> smbios_module() override { return std::nullopt; }
    void unpause() override {}
    void let_go() override {}
    void destroy() override {}

private:
    DomainState state_;
    Bytes context_;
};

/// Guest memory that is a sparse file of this process, whose offsets are guest addresses.
class OrdinaryMemory final : public ForeignMemory {
public:
    OrdinaryMemory() : file_{::memfd_create("guest", MFD_CLOEXEC)} {
        if (!file_ || ::ftruncate(file_.get(), std::int64_t{1} << 33) != 0) fail("memfd");
    }
    Mapping map(std::uint32_t, std::uint64_t gfn, std::uint64_t pages, MapAccess access) override {
        const int protection = access == MapAccess::write ? PROT_READ | PROT_WRITE : PROT_READ;
        return {{static_cast<std::uint8_t*>(raw({.gfn = gfn, .pages = pages}, protection)), pages * page_bytes},
                [](std::span<std::uint8_t> bytes) { ::munmap(bytes.data(), bytes.size()); }};
    }
    void* raw(const Range& range, int protection = PROT_READ) const {
        void* const at =
            ::mmap(nullptr, range.pages * page_bytes, protection, MAP_SHARED | MAP_POPULATE, file_.get(), static_cast<off_t>(range.gfn * page_bytes));
        if (at == MAP_FAILED) fail("mmap");
        return at;
    }

private:
    Fd file_;
};

/// libxenforeignmemory by its own functions.
class BareXen {
public:
    BareXen() : library_{::dlopen("libxenforeignmemory.so.1", RTLD_NOW)} {
        if (!library_) fail("libxenforeignmemory.so.1");
        const auto open = std::bit_cast<void* (*)(void*, unsigned)>(::dlsym(library_, "xenforeignmemory_open"));
        map_ = std::bit_cast<decltype(map_)>(::dlsym(library_, "xenforeignmemory_map"));
        unmap_ = std::bit_cast<decltype(unmap_)>(::dlsym(library_, "xenforeignmemory_unmap"));
        handle_ = open(nullptr, 0);
        if (!handle_) fail("xenforeignmemory_open");
    }
    void* map(std::uint32_t domid, const Range& range) const {
        std::vector<std::uint64_t> frames(range.pages);
        for (std::uint64_t i = 0; i < range.pages; ++i) frames[i] = range.gfn + i;
        std::vector<int> errors(range.pages);
        void* const at = map_(handle_, domid, PROT_READ, range.pages, frames.data(), errors.data());
        if (!at) fail("xenforeignmemory_map");
        return at;
    }
    void unmap(void* at, std::uint64_t pages) const { unmap_(handle_, at, pages); }

private:
    void* library_;
    void* handle_ = nullptr;
    void* (*map_)(void*, std::uint32_t, int, std::size_t, const std::uint64_t*, int*) = nullptr;
    int (*unmap_)(void*, void*, std::size_t) = nullptr;
};

struct Case {
    std::function<std::unique_ptr<Prepared>()> prepare;
    std::function<std::unique_ptr<Domain>()> domain;
    std::shared_ptr<ForeignMemory> memory;
    std::uint32_t domid;
    std::function<std::vector<Digest>(const std::vector<Range>&)> bare;
};

int compare(const Case& one, unsigned rounds) {
    psp::AddressSpace space;
    std::vector<Range> ranges;
    std::uint64_t pages = 0;
    for (const measure::XenRange& range : one.prepare()->image().ranges) {
        ranges.push_back({.gfn = range.gfn, .pages = range.pages});
        pages += range.pages;
    }
    bench::Samples ours, hashed, raw;
    std::vector<Digest> wanted, captured, described;
    const auto time_raw = [&] { raw.time([&] { wanted = one.bare(ranges); }); };
    for (unsigned round = 0; round < rounds; ++round) {
        auto prepared = one.prepare(); // the prediction has a bench of its own
        const auto domain = one.domain();
        if (round % 2 == 0) time_raw();
        hashed.time([&] {
            Capture capture{*prepared, *domain, *one.memory, one.domid};
            if (!capture.differences().empty()) std::abort();
            captured.clear();
            for (std::size_t i = 0; i < ranges.size(); ++i) captured.push_back(sha256(capture.bytes(i)));
        });
        if (round % 2 != 0) time_raw();
        std::unique_ptr<DomainGuest> guest;
        ours.time([&] {
            guest = std::make_unique<DomainGuest>(
                DomainGuest::Parts{.domain = one.domain(), .prepared = std::move(prepared), .memory = one.memory, .pages = space});
            described.clear();
            for (const auto& region : guest->descriptor().regions) described.push_back(region.sha256);
        });
    }
    if (captured != wanted || described != wanted) {
        fmt::print(stderr, "xen_capture: digests differ\n");
        return 1;
    }
    const double mib = static_cast<double>(pages) * page_bytes / (1 << 20), rate = hashed.median_speedup_over(raw);
    bench::print_machine();
    fmt::print("capture of {:.0f} MiB, {} rounds: mapped, compared and hashed at {:.0f} MiB/s; a bare loop that maps and hashes {:.0f} MiB/s; median "
               "ratio {:.3f}, want {:.2f} or more\n",
               mib, rounds, mib / hashed.median_seconds(), mib / raw.median_seconds(), rate, want_rate);
    fmt::print("with a copy for the PSP and the descriptor's digests, as in a launch: median {:.1f} ms; ratio {:.3f}\n", ours.median_seconds() * 1e3,
               ours.median_speedup_over(raw));
    return rate >= want_rate ? 0 : 1;
}

unsigned rounds_of(int argc, char** argv, int at, unsigned otherwise) {
    return argc > at ? std::max(3U, static_cast<unsigned>(std::strtoul(argv[at], nullptr, 10))) : otherwise;
}

int on_xen(int argc, char** argv) {
    const auto domid = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10));
    const auto toolstack = keeper_toolstack({.program = argv[3]}, direct_starter());
    const auto kept = toolstack->adopt(domid, false);
    if (!kept) throw Error{Fault::usage, fmt::format("domain {}: there is none", domid)};
    const std::string config = kept->config();
    const measure::XenVersion version = toolstack->version();
    const BareXen xen;
    return compare({.prepare =
                        [&] {
                            return std::make_unique<Prepared>(measure::read_libxl_json(config, "domain"), version,
                                                              HostFiles{.hvmloader = {}, .ovmf = {}, .seabios = {}, .references = argv[4]});
                        },
                    .domain = [&] { return std::make_unique<Remembered>(kept->state(), kept->context()); },
                    .memory = open_foreign_memory(),
                    .domid = domid,
                    .bare =
                        [&](const std::vector<Range>& ranges) {
                            return bare(ranges, [&](const Range& range) { return xen.map(domid, range); },
                                        [&](void* at, std::uint64_t pages) { xen.unmap(at, pages); });
                        }},
                   rounds_of(argc, argv, 5, 5));
}

/// A guest of the kernel and a ramdisk, built into ordinary memory as predicted.
int natively(int argc, char** argv) {
    const Path folder = std::filesystem::temp_directory_path() / fmt::format("xen-sev-bench-{}", ::getpid());
    std::filesystem::create_directories(folder);
    struct Remove {
        const Path& path;
        ~Remove() { std::filesystem::remove_all(path); }
    } const remove{folder};
    Bytes ramdisk(ramdisk_bytes);
    random_bytes(ramdisk);
    ramdisk[0] = 0; // no gzip
    write_file(folder / "ramdisk", ramdisk, Visibility::readable, Existing::refuse);
    std::filesystem::copy(argv[2], folder / "xen-acpi-reference.json");
    const Bytes reference = read_file(argv[2], measure::AcpiReference::limit_bytes);
    const auto acpi = measure::AcpiReference::from_json(json::parse(as_text(reference), argv[2]), argv[2]);
    measure::XenGuestConfig config;
    config.type = measure::XenGuestType::pvh;
    config.memory_kib = 1U << 20;
    config.vcpus = acpi.vcpus;
    config.online = acpi.online;
    config.kernel = std::filesystem::absolute(argv[1]).string();
    config.ramdisk = (folder / "ramdisk").string();
    config.cmdline = "console=hvc0 root=/dev/xvda";
    const auto prepare = [&] {
        return std::make_unique<Prepared>(config, acpi.xen_version, HostFiles{.hvmloader = {}, .ovmf = {}, .seabios = {}, .references = folder});
    };
    const auto memory = std::make_shared<OrdinaryMemory>();
    const auto built = prepare();
    for (const measure::XenRange& range : built->image().ranges) {
        const Mapping mapping = memory->map(0, range.gfn, range.pages, MapAccess::write);
        std::size_t at = 0;
        range.visit([&](ByteView piece) {
            std::ranges::copy(piece, mapping.bytes().begin() + static_cast<std::ptrdiff_t>(at));
            at += piece.size();
        });
    }
    Bytes context = read_file("tests/fixtures/xen_context/pvh.bin", 1U << 20);
    const auto put = [&](std::size_t at, std::uint64_t value) { std::memcpy(context.data() + 40 + at, &value, sizeof value); };
    put(0x280, built->image().vcpu0.rip);
    put(0x208, built->image().vcpu0.rbx);
    const DomainState state{.domid = 7, .uuid = "", .type = "pvh", .paused = true, .pages = *built->image().total_pages, .vcpus = acpi.vcpus,
                            .online = acpi.vcpus};
    return compare({.prepare = prepare,
                    .domain = [&] { return std::make_unique<Remembered>(state, context); },
                    .memory = memory,
                    .domid = 7,
                    .bare =
                        [&](const std::vector<Range>& ranges) {
                            return bare(ranges, [&](const Range& range) { return memory->raw(range); },
                                        [](void* at, std::uint64_t pages) { ::munmap(at, pages * page_bytes); });
                        }},
                   rounds_of(argc, argv, 3, 21));
}

} // namespace

int main(int argc, char** argv) {
    try {
        if (argc >= 5 && std::string_view{argv[1]} == "--domid") return on_xen(argc, argv);
        if (argc < 3) return 2;
        if (!std::filesystem::exists(argv[1])) {
            fmt::print("SKIPPED: {} is absent (tests/fixtures/xen/debian_files.py fetches it)\n", argv[1]);
            return 77;
        }
        return natively(argc, argv);
    } catch (const Error& error) {
        fmt::print(stderr, "xen_capture: {}\n", error.what());
        return 2;
    }
}
