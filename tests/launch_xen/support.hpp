// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <cerrno>
#include <functional>

#include <sys/mman.h>
#include <unistd.h>

#include "launch/xen/source.hpp"
#include "ovmf-measure/slot.hpp"
#include "tests/support.hpp"

/// A Xen host that is a few objects of the test: guest memory is a sparse file whose offsets are guest addresses, the toolstack a record of what was
/// asked.
namespace sev::test {

class FakeMemory final : public launch::xen::ForeignMemory {
public:
    FakeMemory() : file_{::memfd_create("guest", MFD_CLOEXEC)} {
        REQUIRE(file_);
        REQUIRE(::ftruncate(file_.get(), std::int64_t{1} << 33) == 0);
    }
    launch::xen::Mapping map(std::uint32_t, std::uint64_t gfn, std::uint64_t pages, launch::xen::MapAccess access) override {
        for (std::uint64_t i = gfn; i < gfn + pages; ++i)
            if (i == missing) throw Error{Fault::system, fmt::format("domain 7: page {:#x} is not there", i)};
        const bool write = access == launch::xen::MapAccess::write;
        if (write) written.push_back(gfn);
        void* const at =
            ::mmap(nullptr, pages * 4096, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, file_.get(), static_cast<off_t>(gfn * 4096));
        REQUIRE(at != MAP_FAILED);
        ++mapped;
        return {{static_cast<std::uint8_t*>(at), pages * 4096}, [this, write](std::span<std::uint8_t> bytes) {
                    --mapped;
                    ::munmap(bytes.data(), bytes.size());
                    if (write && after_write) after_write();
                }};
    }
    void put(std::uint64_t gpa, ByteView bytes) {
        REQUIRE(::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(gpa)) == static_cast<ssize_t>(bytes.size()));
    }
    void flip(std::uint64_t gpa) {
        Bytes byte = get(gpa, 1);
        byte[0] ^= 0x40;
        put(gpa, byte);
    }
    Bytes get(std::uint64_t gpa, std::size_t size) {
        Bytes out(size);
        REQUIRE(::pread(file_.get(), out.data(), size, static_cast<off_t>(gpa)) == static_cast<ssize_t>(size));
        return out;
    }
    std::uint64_t missing = ~std::uint64_t{0};
    int mapped = 0;                      // at the moment
    std::vector<std::uint64_t> written;  // frames that were mapped to be written
    std::function<void()> after_write;   // somebody else's turn, once such a mapping is gone

private:
    Fd file_;
};

/// What was done with a domain, and what it says of itself; outlives it.
struct FakeState {
    launch::xen::DomainState state{.domid = 7,
                                   .uuid = "0c2f5b8e-0000-4000-8000-000000000007",
                                   .type = "pvh",
                                   .paused = true,
                                   .shutdown = false,
                                   .dying = false,
                                   .has_run = false,
                                   .pages = 0,
                                   .vcpus = 2,
                                   .online = 2};
    Bytes context;
    std::string config;
    std::optional<launch::xen::ModulePlace> smbios;
    int unpaused = 0, let_go = 0, destroyed = 0;
    bool gone = false, held = false, silent = false;
    std::function<std::string(const Path&)> read_xl_config;
    std::function<void(const std::string& libxl_json)> create;
};

class FakeDomain final : public launch::xen::Domain {
public:
    explicit FakeDomain(std::shared_ptr<FakeState> shared) : shared_{std::move(shared)} {}
    launch::xen::DomainState state() override {
        if (shared_->gone) throw Error{Fault::system, "domain 7: is gone"};
        return shared_->state;
    }
    std::optional<launch::xen::DomainState> find() override {
        if (shared_->silent) throw Error{Fault::system, "keeper: no answer in time"};
        if (shared_->gone) return std::nullopt;
        return shared_->state;
    }
    std::string config() override { return shared_->config; }
    Bytes context() override { return shared_->context; }
    std::optional<launch::xen::ModulePlace> smbios_module() override { return shared_->smbios; }
    void unpause() override {
        ++shared_->unpaused;
        shared_->state.paused = false;
        shared_->state.has_run = true;
    }
    void let_go() override {
        if (!shared_->state.paused || shared_->state.has_run) throw Error{Fault::system, "domain 7: somebody else has let it run"};
        ++shared_->let_go;
    }
    void destroy() override {
        ++shared_->destroyed;
        shared_->gone = true;
    }

private:
    std::shared_ptr<FakeState> shared_;
};

/// A toolstack that knows one domain.
class FakeToolstack final : public launch::xen::Toolstack {
public:
    FakeToolstack(std::shared_ptr<FakeState> shared, measure::XenVersion version) : shared_{std::move(shared)}, version_{version} {}
    measure::XenVersion version() override { return version_; }
    std::string read_xl_config(const Path& file) override {
        if (!shared_->read_xl_config) throw Error{Fault::malformed, file.string() + ": is for another test"};
        return shared_->read_xl_config(file);
    }
    std::unique_ptr<launch::xen::Domain> create(const std::string& libxl_json) override {
        if (!shared_->create) throw Error{Fault::system, "nothing can be created"};
        shared_->create(libxl_json);
        return std::make_unique<FakeDomain>(shared_);
    }
    std::unique_ptr<launch::xen::Domain> adopt(std::uint32_t domid, bool hold) override { return adopted(domid == shared_->state.domid, hold); }
    std::unique_ptr<launch::xen::Domain> adopt(const std::string& uuid, bool hold) override { return adopted(uuid == shared_->state.uuid, hold); }
    std::unique_ptr<launch::xen::Domain> adopt(std::uint32_t domid, const std::string& uuid, bool hold) override {
        return adopted(domid == shared_->state.domid && uuid == shared_->state.uuid, hold);
    }

private:
    std::unique_ptr<launch::xen::Domain> adopted(bool there, bool hold) {
        if (!there || shared_->gone) return nullptr;
        shared_->held = shared_->held || hold;
        return std::make_unique<FakeDomain>(shared_);
    }
    std::shared_ptr<FakeState> shared_;
    measure::XenVersion version_;
};

/// The message of the error that `run` ends with; empty when it does not.
inline std::string refusal(const std::function<void()>& run) {
    try {
        run();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

/// A guest of the fixtures, PVH, or HVM with SeaBIOS and both modules, built into fake memory byte for byte as predicted.
struct FakeHost {
    TemporaryDirectory folder;
    std::shared_ptr<FakeMemory> memory = std::make_shared<FakeMemory>();
    std::shared_ptr<FakeState> domain = std::make_shared<FakeState>();
    psp::AddressSpace space;
    launch::xen::HostFiles host;
    measure::XenGuestConfig config;
    measure::XenVersion version{.major = 4, .minor = 17, .patch = 7};

    explicit FakeHost(measure::XenGuestType type = measure::XenGuestType::pvh) {
        if (type == measure::XenGuestType::hvm) hvm();
        else pvh();
        build();
    }
    void hvm() {
        write_file(folder / "smbios", measure::make_smbios_slot(100), Visibility::readable, Existing::refuse);
        config.type = measure::XenGuestType::hvm;
        config.memory_kib = 256 * 1024;
        config.hvmloader = std::filesystem::absolute(fixture("xen/hvmloader.elf")).string();
        config.system_firmware = std::filesystem::absolute(fixture("xen/bios.bin")).string();
        config.acpi_firmware = std::filesystem::absolute(fixture("xen/ssdt.bin")).string();
        config.smbios_firmware = (folder / "smbios").string();
        domain->state.type = "hvm";
        domain->state.vcpus = domain->state.online = 1;
    }
    void pvh() {
        host.references = folder.path();
        std::filesystem::copy(fixture("xen/acpi-2-2.json"), folder / "xen-acpi-2.json");
        config.type = measure::XenGuestType::pvh;
        config.memory_kib = 256 * 1024;
        config.vcpus = 2;
        config.online = measure::first_vcpus(2);
        config.kernel = std::filesystem::absolute(fixture("xen/kernel.elf")).string();
        config.ramdisk = std::filesystem::absolute(fixture("xen/ramdisk-slot")).string();
        config.cmdline = "console=hvc0 quiet";
    }
    std::unique_ptr<launch::xen::Prepared> prepared() const { return std::make_unique<launch::xen::Prepared>(config, version, host); }
    void build() {
        const auto made = prepared();
        for (const measure::XenRange& range : made->image().ranges) {
            std::uint64_t at = range.gpa();
            range.visit([&](ByteView piece) {
                memory->put(at, piece);
                at += piece.size();
            });
        }
        domain->state.pages = *made->image().total_pages;
        if (const measure::XenRange* module = made->image().find("smbios_module"))
            domain->smbios = {.gpa = module->gpa(), .length_bytes = std::filesystem::file_size(*config.smbios_firmware)};
        domain->context = read_file(fixture(config.type == measure::XenGuestType::pvh ? "xen_context/pvh.bin" : "xen_context/hvm.bin"), 1U << 20);
        const auto put = [&](std::size_t register_at, std::uint64_t value) {
            for (std::size_t i = 0; i < 8; ++i) domain->context[40 + register_at + i] = static_cast<std::uint8_t>(value >> (8 * i));
        };
        put(0x280, made->image().vcpu0.rip);
        put(0x208, made->image().vcpu0.rbx);
    }
    std::unique_ptr<launch::xen::DomainGuest> guest(bool unpause = true) {
        return std::make_unique<launch::xen::DomainGuest>(launch::xen::DomainGuest::Parts{
            .domain = std::make_unique<FakeDomain>(domain), .prepared = prepared(), .memory = memory, .pages = space, .unpause = unpause});
    }
    /// What xl makes of its configuration, as libxl's JSON.
    json::Value libxl_config(std::string_view name) const {
        return {{"c_info", {{"type", "pvh"}, {"name", name}}},
                {"b_info",
                 {{"max_vcpus", 2},
                  {"avail_vcpus", {0, 1}},
                  {"max_memkb", 262144},
                  {"target_memkb", 262144},
                  {"kernel", *config.kernel},
                  {"ramdisk", *config.ramdisk},
                  {"cmdline", *config.cmdline},
                  {"type.pvh", json::Value::object()}}}};
    }
    /// Of a host that has this domain, paused, and no other.
    launch::xen::DomainSource source() {
        return launch::xen::DomainSource{{.toolstack = std::make_unique<FakeToolstack>(domain, version),
                                          .pages = space,
                                          .host = host,
                                          .scratch = folder.path(),
                                          .open_memory = [this] { return memory; }}};
    }
    std::uint64_t gpa(std::string_view label) const { return prepared()->image().find(label)->gpa(); }
};

} // namespace sev::test
