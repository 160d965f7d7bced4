#pragma once

#include "config/settings.hpp"
#include "core/base/error.hpp"
#include "core/base/ids.hpp"
#include "core/experts/huge_page_buffer.hpp"
#include "core/experts/slab_source.hpp"
#include "core/model/checkpoint.hpp"
#include "plugins/plugin_host.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace moira {

/// How far the probe brings an expert: into memory as it lies in the files, which is all where it lies there packed; or
/// on into a slot, packed for the kernels.
enum class probed_way : std::uint8_t { read, read_and_pack };

/// What experts on their way cost.
struct disk_reading {
    double gb_s = 0; ///< 10^9 bytes of the checkpoint per second, all threads together
    std::uint64_t bytes = 0;
    double elapsed_s = 0;
    double read_cpu_s = 0, pack_cpu_s = 0; ///< processor time of one expert
};

/// How fast this machine brings a model's experts, as its loaders do: through their source, so many at once, into huge
/// pages, in an order which nobody can foresee and which is always the same. The one probe of the disk, for every
/// command that needs a figure.
class disk_probe {
public:
    /// `threads`: experts on their way at a time. Takes and touches all memory that measuring needs: whoever asks later
    /// how much is left gets a true answer. `source` outlives the probe. Errors: out_of_memory, invalid_argument (a
    /// model without experts).
    static result<disk_probe> create(slab_source& source, const model_shape& shape, std::uint32_t threads,
                                     probed_way way);

    /// False: some file is read through the page cache, and the probe speaks of memory as much as of the disk.
    bool direct() const;

    /// Goes on in the order until `seconds_max` have passed or as many experts came as there are; at least one.
    /// `interrupted` may be empty. Errors: the source's; cancelled.
    result<disk_reading> measure(double seconds_max, const std::function<bool()>& interrupted = {});

private:
    struct loader {
        huge_page_buffer slab, scratch; ///< of these the ones that the way needs
    };
    struct race;

    disk_probe() = default;

    slab_source* source_ = nullptr;
    probed_way way_ = probed_way::read;
    std::vector<expert_id> experts_;
    std::vector<loader> loaders_;
    std::size_t next_ = 0; // in experts_
};

/// The experts of a model as its loaders read them, past the page cache: what does not fit into memory is not there
/// either. `model` and `plugins` outlive the source. Errors: those of make_checkpoint_slab_source.
result<std::unique_ptr<slab_source>> open_direct_experts(const checkpoint& model, const plugin_host& plugins,
                                                         const settings& all);

} // namespace moira
