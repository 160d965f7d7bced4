#pragma once

namespace moira {

/// Expert reads in flight where nobody says otherwise: queue depth beyond 2-4 only adds latency.
inline constexpr int loader_threads_default = 3;

} // namespace moira
