// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/collect.hpp"

#include <cerrno>

#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "launch/probe/bundle.hpp"
#include "launch/probe/files.hpp"
#include "launch/probe/xen.hpp"

namespace sev::probe {
namespace {

constexpr std::uint32_t syscfg = 0xC001'0010, hwcr = 0xC001'0015, sev_status = 0xC001'0131;

void read_system(Probe& probe, const Path& root) {
    probe.user_id = std::uint64_t{::geteuid()};
    struct utsname names {};
    if (::uname(&names) == 0) {
        probe.kernel_release = printable(names.release, 100);
        probe.kernel_machine = printable(names.machine, 100);
    } else {
        probe.kernel_release = failure_of(errno);
        probe.kernel_machine = failure_of(errno);
    }
    struct rlimit limit {};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        probe.memlock_soft = std::uint64_t{limit.rlim_cur};
        probe.memlock_hard = std::uint64_t{limit.rlim_max};
    } else {
        probe.memlock_soft = failure_of(errno);
        probe.memlock_hard = failure_of(errno);
    }
    const Path dmi = root / "sys/class/dmi/id";
    probe.dmi_system_vendor = read_line(dmi / "sys_vendor");
    probe.dmi_product_name = read_line(dmi / "product_name");
    probe.dmi_board_vendor = read_line(dmi / "board_vendor");
    probe.dmi_board_name = read_line(dmi / "board_name");
    probe.dmi_bios_vendor = read_line(dmi / "bios_vendor");
    probe.dmi_bios_version = read_line(dmi / "bios_version");
    probe.dmi_bios_date = read_line(dmi / "bios_date");
    auto cpu = read_cpu_info(root);
    probe.cpu_microcode = std::move(cpu.microcode);
    probe.cpu_flags = std::move(cpu.flags);
    probe.kernel_arguments = read_kernel_arguments(root);
}

void read_xen(Probe& probe, const Places& places) {
    const Path folder = places.root / "sys/hypervisor";
    probe.xen_type = read_line(folder / "type");
    if (!probe.xen_type.value() || *probe.xen_type.value() != "xen") {
        const NotTried no_xen{"not running under Xen"};
        probe.xen_version = no_xen;
        probe.xen_guest_type = no_xen;
        probe.xen_capabilities = no_xen;
        probe.xen_features = no_xen;
        probe.xen_module = no_xen;
        probe.xen_control = no_xen;
        probe.xen_toolstack_coco = no_xen;
        probe.cpuid_xen_raw = no_xen;
        probe.coco_status = no_xen;
        probe.coco_certificates = no_xen;
        return;
    }
    probe.xen_version = read_xen_version(places.root);
    probe.xen_guest_type = read_line(folder / "guest_type");
    probe.xen_capabilities = read_line(places.root / "proc/xen/capabilities");
    probe.xen_features = read_hexadecimal(folder / "properties/features");
    ask_xen(probe, places.xen_modules);
}

void read_psp(Probe& probe, const Places& places, PspQuestions& psp) {
    probe.psp_devices = read_psp_devices(places.root);
    std::error_code error;
    const bool made = std::filesystem::exists(places.root / "sys/class/misc/sev", error);
    probe.sev_device_kernel_made = error ? Reading<bool>{Failure{error.value(), error.message()}} : Reading<bool>{made};
    probe.sev_device_read = psp.readable();
    probe.sev_device_write = psp.writable();
    probe.platform_status = psp.platform_status();
    probe.chip_id = places.with_chip_id ? psp.chip_id() : Reading<Bytes>{NotTried{"left out: it names this one chip (--with-chip-id)"}};
}

} // namespace

Probe collect(const Places& places, PspQuestions& psp, std::string tool, std::string recorded) {
    Probe probe;
    probe.tool = std::move(tool);
    probe.recorded = std::move(recorded);
    if (places.kernel_log)
        probe.kernel_log = read_saved_log(*places.kernel_log);
    else
        probe.kernel_log = read_kernel_log();
    read_system(probe, places.root);
    probe.cpuid_instruction = cpuid_by_instruction();
    probe.cpuid_device = cpuid_by_device(places.root / "dev/cpu/0/cpuid");
    const Path msr = places.root / "dev/cpu/0/msr";
    probe.msr_syscfg = read_msr(msr, syscfg);
    probe.msr_hwcr = read_msr(msr, hwcr);
    probe.msr_sev_status = read_msr(msr, sev_status);
    read_xen(probe, places);
    read_psp(probe, places, psp);
    const Path kvm = places.root / "sys/module/kvm_amd/parameters";
    probe.kvm_sev = read_line(kvm / "sev");
    probe.kvm_sev_es = read_line(kvm / "sev_es");
    probe.kvm_sev_snp = read_line(kvm / "sev_snp");
    probe.kvm_api = kvm_api_version(places.root / "dev/kvm");
    return probe;
}

} // namespace sev::probe
