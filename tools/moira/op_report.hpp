#pragma once

#include "config/settings.hpp"
#include "core/base/error.hpp"
#include "core/model/checkpoint.hpp"
#include "plugins/plugin_host.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moira {

/// Who would run one kind of op of a model, and what every plugin that was found says to it.
struct op_report {
    std::string op;
    std::string chosen; ///< empty: nobody can
    int score = 0;
    std::string numerics_id;
    bool row_exact = false;
    std::vector<op_candidate> candidates; ///< best first; plugins that are not open stand last, with their reason
    std::string missing;                  ///< why nobody can
};

/// One row for every kind of op that the model uses. Nothing is loaded or prepared. Errors: corrupt_file (the embedding
/// is not there), unsupported (a weight type that no kernel reads).
result<std::vector<op_report>> report_ops(const checkpoint& model, const plugin_host& host, const settings& all);

nlohmann::ordered_json op_report_json(const std::vector<op_report>& ops);

/// With `why` every candidate and its reason, else only the chosen ones.
std::string op_report_text(const std::vector<op_report>& ops, bool why, bool colour);

} // namespace moira
