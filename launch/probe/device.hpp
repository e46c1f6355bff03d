// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "base/file.hpp"
#include "launch/probe/probe.hpp"

namespace sev::probe {

/// Asks a PSP two questions that change nothing: PLATFORM_STATUS and GET_ID. Behind an interface so that a test can answer.
class PspQuestions {
public:
    PspQuestions() = default;
    PspQuestions(const PspQuestions&) = delete;
    PspQuestions& operator=(const PspQuestions&) = delete;
    virtual ~PspQuestions() = default;
    virtual Reading<bool> readable() = 0;
    /// Whether it can be opened for writing; nothing is written.
    virtual Reading<bool> writable() = 0;
    virtual Reading<PlatformAnswer> platform_status() = 0;
    /// 64 bytes: the id of the first socket's chip.
    virtual Reading<Bytes> chip_id() = 0;
};

/// Linux's /dev/sev, opened for reading only: with such a descriptor the kernel runs no command that changes the platform. Source: Linux psp-sev.h
/// and the SEV_ISSUE_CMD ioctl.
class SevDevice : public PspQuestions {
public:
    explicit SevDevice(Path path) : path_{std::move(path)} {}
    Reading<bool> readable() override;
    Reading<bool> writable() override;
    Reading<PlatformAnswer> platform_status() override;
    Reading<Bytes> chip_id() override;

private:
    Path path_;
};

/// KVM_GET_API_VERSION of /dev/kvm.
Reading<std::uint64_t> kvm_api_version(const Path& device);

} // namespace sev::probe
