// SPDX-License-Identifier: Apache-2.0
#include "launch/probe/xen.hpp"

#include <algorithm>
#include <bit>

#include <dlfcn.h>

#include "launch/probe/bundle.hpp"
#include "launch/probe/xen_module.hpp"
#include "psp/xen/coco.hpp"

namespace sev::probe {
namespace {

constexpr int not_tried = -1;

/// Nothing that needs the module could be asked, for this one reason.
template <class Outcome>
void none(Probe& probe, const Outcome& why) {
    probe.xen_module = why;
    probe.xen_control = NotTried{"the helper module for Xen is not loaded"};
    probe.xen_toolstack_coco = NotTried{"the helper module for Xen is not loaded"};
    probe.cpuid_xen_raw = NotTried{"the helper module for Xen is not loaded"};
    probe.coco_status = NotTried{"the helper module for Xen is not loaded"};
    probe.coco_certificates = NotTried{"the helper module for Xen is not loaded"};
}

std::string dl_error() {
    const char* const text = ::dlerror(); // NOLINT(concurrency-mt-unsafe): glibc's is per thread
    return printable(text ? text : "cannot be loaded", Bundle::limit_text / 4);
}

template <class T>
Reading<T> outcome(int error, T value, std::string_view why_not_tried) {
    if (error == not_tried) return NotTried{std::string{why_not_tried}};
    if (error != 0) return failure_of(error);
    return value;
}

/// What psp/xen's probe finds. No layout is named: what is recorded lies alike in all of them.
void ask_coco(Probe& probe) {
    constexpr std::size_t kept_bytes = 64;
    const NotTried not_asked{"the coco hypercall does not say that SEV is supported"};
    probe.coco_certificates = not_asked;
    try {
        const auto calls = psp::xen::open_xencall();
        psp::xen::CocoProbe found = psp::xen::probe(*calls, std::nullopt);
        if (found.error_number != 0) {
            probe.coco_status = Failure{found.error_number, std::move(found.sentence)};
            return;
        }
        found.status_bytes.resize(kept_bytes);
        probe.coco_status = std::move(found.status_bytes);
        if (found.certificates_error) probe.coco_certificates = outcome(*found.certificates_error, true, not_asked.why);
    } catch (const Error& error) {
        probe.coco_status = Failure{0, printable(error.what(), Bundle::limit_text / 4)};
    }
}

} // namespace

void ask_xen(Probe& probe, const std::vector<Path>& modules) {
    const auto path = std::ranges::find_if(modules, [](const Path& one) {
        std::error_code ignored;
        return std::filesystem::exists(one, ignored);
    });
    if (path == modules.end()) return none(probe, NotTried{"the helper module xen-sev-probe-xen.so is not installed"});
    // it stays loaded: this program ends soon after, and taking a dozen libraries apart again would cost as much as loading them
    void* const module = ::dlopen(path->c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!module) return none(probe, Failure{0, dl_error()});
    void* const symbol = ::dlsym(module, "xen_sev_probe");
    if (!symbol) return none(probe, Failure{0, dl_error()});

    xen_sev_probe_result result{};
    result.abi = xen_sev_probe_abi;
    if (const int error = std::bit_cast<xen_sev_probe_function*>(symbol)(&result); error != 0) return none(probe, failure_of(error));

    constexpr std::string_view closed = "libxenctrl did not open";
    probe.xen_module = std::string{result.built_for, std::find(std::begin(result.built_for), std::end(result.built_for), '\0')};
    probe.xen_control = outcome(result.control_error, true, closed);
    probe.xen_toolstack_coco = result.toolstack_coco != 0;
    CpuidLeaves raw{.leaves = {}, .zero_leaves_left_out = true};
    const std::size_t count = std::min<std::size_t>(result.leaf_count, xen_sev_probe_leaves);
    for (std::size_t i = 0; i < count; ++i) {
        const xen_sev_probe_leaf& one = result.leaves[i];
        raw.leaves.push_back({one.leaf, one.subleaf, one.eax, one.ebx, one.ecx, one.edx});
    }
    probe.cpuid_xen_raw = outcome(result.policy_error, std::move(raw), closed);
    if (result.control_error != 0) {
        probe.coco_status = NotTried{std::string{closed}};
        probe.coco_certificates = NotTried{std::string{closed}};
    } else {
        ask_coco(probe);
    }
}

} // namespace sev::probe
