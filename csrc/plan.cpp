#include "plan.h"

#include <algorithm>

#include "cpu/tile.h"

namespace fastinit {

void FillPlan::add(FillJob job, std::vector<Dim> shape) {
  std::erase_if(shape, [](const Dim& d) { return d.size == 1; });
  std::stable_sort(shape.begin(), shape.end(), [](const Dim& a, const Dim& b) { return a.stride > b.stride; });
  job.first_dim = static_cast<int32_t>(dims.size());
  job.elements = 1;
  for (const Dim& d : shape) {
    job.elements *= d.size;
    Dim* outer = static_cast<int32_t>(dims.size()) > job.first_dim ? &dims.back() : nullptr;
    if (outer != nullptr && outer->stride == d.size * d.stride && outer->index_stride == d.size * d.index_stride) {
      *outer = {outer->size * d.size, d.stride, d.index_stride};
    } else {
      dims.push_back(d);
    }
  }
  if (job.elements == 0) {
    dims.resize(job.first_dim);
    return;
  }
  job.dims = static_cast<int32_t>(dims.size()) - job.first_dim;
  if (job.dims == 0 || (job.dims == 1 && dims.back().stride == 1 && dims.back().index_stride == 1)) {
    dims.resize(job.first_dim);
    job.dims = 0;
    job.unit_elements = std::min(job.elements, kRunUnit);
    job.units = (job.elements + job.unit_elements - 1) / job.unit_elements;
  } else {
    const Tiling tiling(dims.data() + job.first_dim, job.dims, item_size(job.dtype));
    job.unit_elements = tiling.elements();
    job.units = tiling.count();
  }
  jobs.push_back(job);
  starts.push_back(starts.back() + job.units * job.unit_elements);
}

}  // namespace fastinit
