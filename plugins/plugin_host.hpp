#pragma once

#include "core/base/error.hpp"
#include "core/execute/compute_pool.hpp"
#include "core/execute/op_provider.hpp"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace moira {

/// One shared object that was looked at, whether it is used or not.
struct found_plugin {
    std::filesystem::path file;
    std::string name;
    std::string device_class;
    int score = 0;
    bool open = false;
    std::string reason;  ///< why this score, or why it was refused (other ABI version, broken file, missing symbol)
};

/// Finds plugins in folders, opens those that can run here, and chooses one per op. Plugins are never unloaded.
class plugin_host final : public op_selector {
public:
    struct options {
        std::vector<std::filesystem::path> folders;
        std::string forced_plugin;             ///< "compute.plugin": only this one; empty: best score per op
        std::string device_class = "cpu";
        log_function log = {};  ///< what plugins say
        std::string fallback_class = {};  ///< taken when no plugin of device_class can run; empty: none
        std::uint32_t device_index = 0;   ///< of the devices that a plugin suits, in its own order
    };

    /// Probes every *.so in the folders. One bad plugin is reported in found(), never fatal. Errors: not_found (no
    /// folder), op_missing (no usable plugin of either class, or the forced one is not usable: with the reason).
    static result<std::unique_ptr<plugin_host>> open(const options& wanted, compute_pool& pool);

    ~plugin_host() override;

    result<op_choice> choose(const moira_op_header& desc) const override;
    const op_provider& memory_provider() const override;
    const std::vector<found_plugin>& found() const noexcept;

private:
    struct impl;
    explicit plugin_host(std::unique_ptr<impl> parts);
    std::unique_ptr<impl> impl_;
};

}  // namespace moira
