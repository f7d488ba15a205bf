// Haar-distributed matrices without a factorisation. The Householder vectors of the QR factorisation of a matrix of
// independent normal numbers are themselves of independent normal numbers (Stewart, SIAM J. Numer. Anal. 17, 1980):
// they are drawn, and Q with the signs that make R's diagonal positive (Mezzadri, math-ph/0609050) is accumulated from
// them, a panel of them at a time, in the compact WY form, that is by matrix products. Through ATen alone: nothing here
// knows the device.
#include "orthogonal.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ThreadLocalState.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "cpu/float_environment.h"
#include "laws.h"
#include "threads.h"

namespace fastinit {
namespace {

constexpr int64_t kPanel = 160;     // vectors, by measurement
constexpr int64_t kFew = 1 << 17;   // elements that a temporary copy of is no matter
constexpr double kSmall = 1 << 28;  // operations (about 580 x 580): matrices with fewer run side by side

// The matrix that a job's tensor is, or is a part of.
struct Whole {
  int64_t rows, columns;

  explicit Whole(const OrthogonalJob& job) : rows(job.global[0]), columns(1) {
    for (size_t d = 1; d < job.global.size(); ++d) columns *= job.global[d];
  }
  bool is_wide() const { return rows < columns; }
  double operations() const {
    const double n = std::max(rows, columns), m = std::min(rows, columns);
    return 2 * m * m * (n - m / 3);
  }
};

// The type whose normal numbers and precision the values have, before they are rounded to the tensor's.
at::ScalarType arithmetic_type(const OrthogonalJob& job) {
  return job.tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// Standard normal numbers: those of the matrix from element (start, start) on, of which `part` is a view.
void draw(const at::Tensor& part, const OrthogonalJob& job, int64_t start) {
  static const auto fill =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("fastinit::fill_", "")
          .typed<void(at::TensorList, at::IntArrayRef, at::ArrayRef<double>, at::IntArrayRef, at::IntArrayRef)>();
  constexpr int64_t kNormal = static_cast<int64_t>(LawCode::kNormal);
  const Whole whole(job);
  const at::Tensor numbers = part.to(arithmetic_type(job));  // `part` itself, but where products are reduced
  fill.call(numbers, kNormal, {0.0, 1.0, 0.0, 0.0}, {static_cast<int64_t>(job.seed), static_cast<int64_t>(job.offset)},
            {whole.rows, whole.columns, start, start});
  if (!numbers.is_same(part)) part.copy_(numbers);
}

// A dense matrix in this memory, its columns or its rows one after another.
at::Tensor matrix_in(const at::Tensor& memory, int64_t rows, int64_t columns, bool by_columns) {
  const at::Tensor dense = memory.narrow(0, 0, rows * columns);
  return by_columns ? dense.view({columns, rows}).t() : dense.view({rows, columns});
}

// The squares of the columns' norms: few columns may be long, so that sums of their own type must be made in a tree.
// Not all columns at once, since torch makes a float64 copy of what it is given.
at::Tensor squares(const at::Tensor& v) {
  const int64_t n = v.size(0), m = v.size(1), step = std::clamp<int64_t>(kFew / n, 1, m);
  const at::Tensor sums = at::empty({m}, v.options().dtype(at::kDouble));
  for (int64_t begin = 0; begin < m; begin += step) {
    const at::Tensor some = v.narrow(1, begin, std::min(step, m - begin));
    sums.narrow(0, begin, some.size(1))
        .copy_(v.scalar_type() == at::kDouble ? at::sum(some.square(), 0)
                                              : at::linalg_vector_norm(some, 2, 0, false, at::kDouble).square_());
  }
  return sums;
}

// Fills q, the job's matrix or, where that is wide, its transpose, so that q has at least as many rows as columns. From
// the last panel to the first, with V its vectors, T^-1 + T^-T = V'V and D the signs times the gain:
//   Q <- (1 - V T V') [D 0; 0 Q]
void accumulate(const at::Tensor& q, double gain, const OrthogonalJob& job) {
  const bool by_columns = Whole(job).is_wide();
  const int64_t n = q.size(0), m = q.size(1), width = std::min(kPanel, n * m < kFew ? m : (m + 1) / 2);
  const at::Tensor vectors = at::empty({width * n}, q.options()), products = at::empty({width * m}, q.options()),
                   triangle = at::empty({width * width}, q.options());
  for (int64_t begin = (m - 1) / width * width; begin >= 0; begin -= width) {
    const int64_t count = std::min(width, m - begin), end = begin + count;
    const at::Tensor v = matrix_in(vectors, n - begin, count, true), head = v.narrow(0, 0, count),
                     tail = v.narrow(0, count, n - end);
    draw(by_columns ? v.t() : v, job, begin);
    head.tril_();

    // A vector x becomes v = x + sign(x0) |x| e0; |v|^2 follows without another pass.
    const at::Tensor diagonal = head.diagonal(), x0 = diagonal.to(at::kDouble, false, /*copy=*/true),
                     sign = at::where(x0 < 0, -1.0, 1.0).to(at::kDouble), square = squares(v);
    diagonal.copy_(at::addcmul(x0, sign, square.sqrt()));
    at::Tensor d = sign.mul(-gain).to(q.scalar_type()), half = square.sub_(x0.square_()).div_(2);
    half.add_(diagonal.to(at::kDouble).square(), 0.5);
    if (end == n) {  // the last of a square matrix is one number, which needs no reflection: its sign is all
      diagonal[-1].zero_();
      half[-1].fill_(1);
      d[-1].neg_();
    }
    at::Tensor inverse = matrix_in(triangle, count, count, false);
    at::mm_out(inverse, v.t(), v);
    inverse.diagonal().copy_(half);

    // W = T V' [D 0; 0 Q]
    at::Tensor w = matrix_in(products, count, m - begin, by_columns);
    w.narrow(1, 0, count).copy_(head.t()).mul_(d);
    if (end < m) {
      at::Tensor right = w.narrow(1, count, m - end);
      at::mm_out(right, tail.t(), q.narrow(0, end, n - end).narrow(1, end, m - end));
    }
    at::linalg_solve_triangular_out(w, inverse, w, /*upper=*/true);

    q.narrow(0, begin, n - begin).narrow(1, begin, count).zero_();
    q.narrow(0, begin, count).narrow(1, end, m - end).zero_();
    q.narrow(0, begin, count).narrow(1, begin, count).diagonal().copy_(d);
    q.narrow(0, begin, n - begin).narrow(1, begin, m - begin).addmm_(v, w, 1, -1);
  }
}

void fill(const OrthogonalJob& job) {
  const DefaultFloatEnvironment environment;
  const c10::OptionalDeviceGuard on_device(job.tensor.device());
  const Whole whole(job);
  const at::ScalarType type = products_are_reduced(job.tensor.device()) ? at::kDouble : arithmetic_type(job);
  const bool in_place =
      job.tensor.sizes() == job.global && job.tensor.scalar_type() == type && job.tensor.is_contiguous();
  const at::Tensor q = in_place ? job.tensor.view({whole.rows, whole.columns})
                                : at::empty({whole.rows, whole.columns}, job.tensor.options().dtype(type));
  // A gain far from 1 would take the products out of the type's range.
  const bool is_ordinary = std::abs(job.gain) > 0x1p-32 && std::abs(job.gain) < 0x1p32;
  accumulate(whole.is_wide() ? q.t() : q, is_ordinary ? job.gain : 1.0, job);
  if (!is_ordinary) q.mul_(job.gain);
  if (in_place) return;
  at::Tensor part = q.view(job.global);
  for (int64_t d = 0; d < part.dim(); ++d) part = part.narrow(d, job.start[d], job.tensor.size(d));
  job.tensor.copy_(part);
}

// Large matrices one after another, each with all threads, then small ones side by side, each on one thread. On CUDA
// all of them on this thread, whose current stream they are to go to.
void fill_all(const std::vector<OrthogonalJob>& jobs) {
  std::vector<const OrthogonalJob*> small;
  for (const OrthogonalJob& job : jobs) {
    if (job.tensor.is_cpu() && Whole(job).operations() < kSmall) {
      small.push_back(&job);
    } else {
      fill(job);
    }
  }
  const at::ThreadLocalState state;
  for_each_unit(static_cast<int64_t>(small.size()), [&](int64_t i) {
    const at::ThreadLocalStateGuard as_caller(state);
    fill(*small[i]);
  });
}

}  // namespace

bool products_are_reduced(at::Device device) {
  const auto backend = device.is_cuda() ? at::Float32Backend::CUDA : at::Float32Backend::MKLDNN;
  const auto precision = at::globalContext().float32Precision(backend, at::Float32Op::MATMUL);
  return precision == at::Float32Precision::BF16 || precision == at::Float32Precision::TF32;
}

void fill_orthogonal(const std::vector<OrthogonalJob>& jobs) {
  if (jobs.empty()) return;
  // Neither autograd nor autocast sees what is done here, and versions were counted already.
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const c10::impl::ExcludeDispatchKeyGuard without_autocast(c10::autocast_dispatch_keyset);
  if (!is_forked || !jobs[0].tensor.is_cpu()) return fill_all(jobs);
  // OpenMP would wait for the threads of the parent; to a thread that is new it gives threads that are new.
  const at::ThreadLocalState state;
  std::async(std::launch::async, [&] {
    const at::ThreadLocalStateGuard as_caller(state);
    fill_all(jobs);
  }).get();
}

}  // namespace fastinit
