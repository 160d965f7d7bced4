#pragma once

#include "core/base/error.hpp"
#include "plugins/moira_plugin.h"

#include <string>
#include <vector>

namespace moira {

/// An open plugin on one device, as core sees it: tables and handles, borrowed. The plugin host owns them and outlives
/// every user.
struct op_provider {
    std::string plugin;        ///< "cpu_avx512"
    std::string device_class;  ///< "cpu"
    const moira_plugin_api* api = nullptr;
    moira_device* device = nullptr;
};

/// One plugin's answer for one op; what `moira plugins --why` prints.
struct op_candidate {
    std::string plugin;
    int score = 0;          ///< <= 0: cannot
    std::string reason;
};

/// The winner for one op, and everybody who was asked.
struct op_choice {
    const op_provider* provider = nullptr;
    std::string numerics_id;
    bool row_exact = false;
    std::uint32_t kv_type_wanted = MOIRA_TYPE_F32;  ///< see moira_op_support
    std::vector<op_candidate> candidates;  ///< best first
};

/// Chooses a plugin per op. Implemented by the plugin host (plugins/), so that core does not know how plugins are found.
class op_selector {
public:
    virtual ~op_selector() = default;

    /// Errors: op_missing, with every candidate's reason, when no plugin can run `desc`.
    virtual result<op_choice> choose(const moira_op_header& desc) const = 0;

    /// The provider whose device owns buffers and streams. All chosen providers share its device class.
    virtual const op_provider& memory_provider() const = 0;
};

/// Wire name of an op kind, e.g. "expert_ffn"; "unknown" outside the enumeration.
const char* op_name(std::uint32_t op) noexcept;

}  // namespace moira
