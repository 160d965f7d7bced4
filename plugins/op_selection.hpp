#pragma once

#include "core/execute/op_provider.hpp"

#include <vector>

namespace moira {

/// Asks every provider whether it can run `desc` and takes the best score; equal scores go to the earlier provider.
/// The choice points into `providers`. Errors: op_missing, with every provider's reason.
result<op_choice> select_op(const std::vector<op_provider>& providers, const moira_op_header& desc);

} // namespace moira
