/* Loops of VDSM and of the KAN layer for a processor; models/kernels/build.py compiles them.

   Each does in one pass over memory what takes PyTorch several. `real` is float or double, BITS an
   integer of its size; all arrays are contiguous unless a stride is given. A thread takes up to
   100 KiB of stack, and of the heap as much as the cells of one picture need. Sizes: images B,
   channels C, cells N, regions R; rows, bases and knots of a KAN layer. Arithmetic and its order
   are those of the PyTorch formulation wherever labels depend on it. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef REAL real;
typedef int64_t integer;

/* A vector fills a register, and BLOCK x VECTORS sums leave a few of them free. */
#ifdef __AVX512F__
enum { BYTES = 64, VECTORS = 4 };
#else
enum { BYTES = 32, VECTORS = 2 };
#endif
typedef real vector __attribute__((vector_size(BYTES)));
typedef BITS mask __attribute__((vector_size(BYTES))); /* of a comparison: all bits set is true */
enum { LANES = BYTES / sizeof(real), BLOCK = 6, DEPTH = 64, TILE = 64, ROWS = 64 };

/* ---------------------------------------------------------------- VDSM: models/vdsm.py */

static inline vector lower(vector a, vector b)
{
    mask first = a < b;
    return (vector)(((mask)a & first) | ((mask)b & ~first));
}

static inline vector higher(vector a, vector b)
{
    mask first = a > b;
    return (vector)(((mask)a & first) | ((mask)b & ~first));
}

/* Rotations of a vector by half of it, a quarter and so on: what all its lanes have in common. */
struct rotations {
    mask by[6];
    int count;
};

static struct rotations all_rotations(void)
{
    struct rotations rotations = {.count = 0};
    for (int half = LANES / 2; half; half /= 2, rotations.count++)
        for (int lane = 0; lane < LANES; lane++)
            rotations.by[rotations.count][lane] = (lane + half) % LANES;
    return rotations;
}

/* Scale a channel's cells to [0, 1]; one NaN makes all NaN. The last vector overlaps the one before
   it, and fewer cells than a vector has are filled up with the first. */
static inline void scale_channel(const real *in, real *out, integer cells,
                                 const struct rotations *rotations)
{
    real few[LANES];
    if (cells < LANES) {
        for (integer cell = 0; cell < LANES; cell++)
            few[cell] = in[cell < cells ? cell : 0];
        in = few;
    }
    integer last = cells < LANES ? 0 : cells - LANES;
    vector value, low, high;
    memcpy(&low, in, sizeof low);
    high = low;
    mask broken = low != low;
    for (integer cell = 0; cell < last;) {
        cell = cell + LANES < last ? cell + LANES : last;
        memcpy(&value, in + cell, sizeof value);
        low = lower(value, low);
        high = higher(value, high);
        broken |= value != value;
    }
    for (int i = 0; i < rotations->count; i++) {
        low = lower(__builtin_shuffle(low, rotations->by[i]), low);
        high = higher(__builtin_shuffle(high, rotations->by[i]), high);
        broken |= __builtin_shuffle(broken, rotations->by[i]);
    }
    vector range = high - low + (real)1e-8;
    range = (vector)((mask)range | broken); /* all bits set: NaN */
    for (integer cell = 0;; cell = cell + LANES < last ? cell + LANES : last) {
        memcpy(&value, in + cell, sizeof value);
        value = (value - low) / range;
        memcpy(out + cell, &value, (cells < LANES ? cells : LANES) * sizeof *out);
        if (cell == last)
            break;
    }
}

/* Add the products of BLOCK cells with `count` vectors of cells, over `depth` channels. `count` is
   a constant wherever this is called, so that all sums stay in registers. */
static inline __attribute__((always_inline)) void
add_products(const real *cells, const real *others, real *sums, int depth, integer padded,
             const int count)
{
    vector sum[BLOCK][VECTORS];
    for (int i = 0; i < BLOCK; i++)
        for (int v = 0; v < count; v++)
            memcpy(&sum[i][v], sums + i * padded + v * LANES, sizeof(vector));
    for (int channel = 0; channel < depth; channel++) {
        vector other[VECTORS];
        for (int v = 0; v < count; v++)
            memcpy(&other[v], others + channel * padded + v * LANES, sizeof(vector));
        for (int i = 0; i < BLOCK; i++)
            for (int v = 0; v < count; v++)
                sum[i][v] += cells[channel * padded + i] * other[v];
    }
    for (int i = 0; i < BLOCK; i++)
        for (int v = 0; v < count; v++)
            memcpy(sums + i * padded + v * LANES, &sum[i][v], sizeof(vector));
}

/* Cells of an image after padding: whole vectors, and whole blocks of rows. */
static integer padded_cells(integer cells)
{
    integer rows = (cells + BLOCK - 1) / BLOCK * BLOCK;
    return (rows + LANES - 1) / LANES * LANES;
}

/* Products of every two cells of x (B, C, N), scaled by channel, plus what `closeness` (N, N) has
   for them: (B, N, N). The sums over all channels of an image exist on one side of the diagonal
   until the end, so the result is symmetric to the last bit. */
void affinity(const real *x, const real *closeness, real *result, integer batch, integer channels,
              integer cells, integer threads)
{
    integer padded = padded_cells(cells);
    const struct rotations rotations = all_rotations();
#pragma omp parallel num_threads(threads)
    {
        real *scaled = aligned_alloc(64, DEPTH * padded * sizeof *scaled);
        real *sums = aligned_alloc(64, padded * padded * sizeof *sums);
        memset(scaled, 0, DEPTH * padded * sizeof *scaled);
#pragma omp for schedule(static)
        for (integer image = 0; image < batch; image++) {
            memset(sums, 0, padded * padded * sizeof *sums);
            for (integer first = 0; first < channels; first += DEPTH) {
                int depth = channels - first < DEPTH ? channels - first : DEPTH;
                for (int channel = 0; channel < depth; channel++)
                    scale_channel(x + (image * channels + first + channel) * cells,
                                  scaled + channel * padded, cells, &rotations);
                for (integer row = 0; row < cells; row += BLOCK) {
                    integer corner = row + BLOCK < cells ? row + BLOCK : cells;
                    integer left = (corner + LANES - 1) / LANES;
                    for (integer column = 0; left > 0; column += VECTORS * LANES, left -= VECTORS) {
                        const real *rows = scaled + row, *others = scaled + column;
                        real *place = sums + row * padded + column;
                        if (left >= VECTORS)
                            add_products(rows, others, place, depth, padded, VECTORS);
                        else if (left == 3)
                            add_products(rows, others, place, depth, padded, VECTORS > 3 ? 3 : 1);
                        else if (left == 2)
                            add_products(rows, others, place, depth, padded, VECTORS > 2 ? 2 : 1);
                        else
                            add_products(rows, others, place, depth, padded, 1);
                    }
                }
            }
            for (integer row = 0; row < cells; row++)
                for (integer column = 0; column < cells; column++) {
                    integer place = row > column ? row * padded + column : column * padded + row;
                    result[(image * cells + row) * cells + column] =
                        sums[place] + closeness[row * cells + column];
                }
        }
        free(scaled);
        free(sums);
    }
}

/* The edge that every cell votes for, and the density of all edges, (B, N) and (B, N * N). The edge
   joins the two cells that the voter is most alike to or, if `own`, the best one and itself. Of
   equals the lower cell counts first; if `strict`, that is left to others, and so is what is not a
   number: then 1 is returned, else 0. */
int vote(const real *affinity, const real *votes, integer own, integer strict, integer *edges,
         real *density, integer batch, integer cells)
{
    memset(density, 0, batch * cells * cells * sizeof *density);
    for (integer voter = 0; voter < batch * cells; voter++) {
        const real *alike = affinity + voter * cells;
        real best = -INFINITY, second = -INFINITY, third = -INFINITY;
        integer first = 0, other = 0;
        int broken = 0;
        for (integer cell = 0; cell < cells; cell++) {
            real value = alike[cell];
            broken |= !(value > -INFINITY);
            if (value > best) {
                third = second;
                second = best, other = first;
                best = value, first = cell;
            } else if (value > second) {
                third = second;
                second = value, other = cell;
            } else if (value > third) {
                third = value;
            }
        }
        if (broken || (strict && second == third))
            return 1;
        if (own)
            other = voter % cells;
        integer edge = first < other ? first * cells + other : other * cells + first;
        edges[voter] = edge;
        density[voter / cells * cells * cells + edge] += votes[edge];
    }
    return 0;
}

/* Replace the keys (below `size`) of one image by their rank among those that occur. */
static void rank_keys(integer *labels, integer cells, integer *rank, integer size)
{
    memset(rank, 0, size * sizeof *rank);
    for (integer cell = 0; cell < cells; cell++)
        rank[labels[cell]] = 1;
    integer next = 0;
    for (integer key = 0; key < size; key++)
        if (rank[key])
            rank[key] = next++;
    for (integer cell = 0; cell < cells; cell++)
        labels[cell] = rank[labels[cell]];
}

static void replace(integer *labels, integer cells, integer old, integer new)
{
    for (integer cell = 0; cell < cells; cell++)
        labels[cell] = labels[cell] == old ? new : labels[cell];
}

/* models.merging.merge_released, after its topk. `work`: merges + cells numbers. */
void merge_released(const integer *edges, const real *density, integer batch, integer cells,
                    integer merges, integer *labels, integer *work)
{
    for (integer image = 0; image < batch; image++) {
        const integer *edge = edges + image * merges;
        const real *votes = density + image * merges;
        integer *label = labels + image * cells;
        for (integer cell = 0; cell < cells; cell++)
            label[cell] = merges + cell;
        for (integer rank = 0; rank < merges && votes[rank] != 0; rank++) {
            integer low = edge[rank] / cells, high = edge[rank] % cells;
            integer passed_on = label[low], replaced = label[high];
            if (passed_on >= merges && replaced >= merges)
                label[low] = rank;
            else if (passed_on >= merges)
                label[low] = replaced;
            else if (replaced >= merges)
                label[high] = passed_on;
            else if (passed_on != replaced)
                replace(label, cells, replaced, passed_on);
        }
        rank_keys(label, cells, work, merges + cells);
    }
}

struct edge {
    real density;
    integer ends;
};

/* Densest first; of equal densities the lower edge. */
static int by_density(const void *first, const void *second)
{
    const struct edge *a = first, *b = second;
    if (a->density != b->density)
        return a->density > b->density ? -1 : 1;
    return (a->ends > b->ends) - (a->ends < b->ends);
}

/* models.merging.merge_single_linkage. `work`: cells numbers, `sorted`: cells edges of 16 bytes. */
void merge_single_linkage(const integer *edges, const real *density, integer batch, integer cells,
                          integer merges, integer *labels, integer *work, struct edge *sorted)
{
    for (integer image = 0; image < batch; image++) {
        integer *label = labels + image * cells;
        for (integer cell = 0; cell < cells; cell++) {
            sorted[cell].density = density[image * cells + cell];
            sorted[cell].ends = edges[image * cells + cell];
            label[cell] = cell;
        }
        qsort(sorted, cells, sizeof *sorted, by_density);
        integer merged = 0;
        for (integer i = 0; i < cells && merged < merges; i++) {
            if (i && sorted[i].ends == sorted[i - 1].ends)
                continue; /* several cells may vote for one edge */
            integer first = label[sorted[i].ends / cells], second = label[sorted[i].ends % cells];
            if (first != second)
                replace(label, cells, first > second ? first : second,
                        first > second ? second : first);
            merged++;
        }
        rank_keys(label, cells, work, cells);
    }
}

/* Row of each image's first region, and the end of the last (B + 1), and the cells of each region
   (at most B * N rows). 1 is returned for a label that is not in 0..N-1, else 0. */
int region_sizes(const integer *labels, integer batch, integer cells, integer *starts, real *sizes)
{
    integer start = 0;
    for (integer image = 0; image < batch; image++) {
        integer regions = 0;
        starts[image] = start;
        for (integer cell = 0; cell < cells; cell++) {
            integer label = labels[image * cells + cell];
            if (label < 0 || label >= cells)
                return 1;
            for (; regions <= label; regions++)
                sizes[start + regions] = 0;
            sizes[start + label] += 1;
        }
        start += regions;
    }
    starts[batch] = start;
    return 0;
}

/* TILE channels of an image, or as many as are left, and its regions. A thread takes such a tile at
   a time: the means of a region are then several lines of memory side by side. */
struct tile {
    integer image, first, width, start, regions;
};

static integer tiles_of(integer channels)
{
    return (channels + TILE - 1) / TILE;
}

static struct tile find_tile(integer number, integer channels, const integer *starts)
{
    integer image = number / tiles_of(channels), first = number % tiles_of(channels) * TILE;
    integer width = channels - first < TILE ? channels - first : TILE;
    return (struct tile){image, first, width, starts[image], starts[image + 1] - starts[image]};
}

/* Means (R, C) of the regions of x (B, C, N). */
void pool_regions(const real *x, const integer *labels, const integer *starts, const real *sizes,
                  real *means, integer batch, integer channels, integer cells, integer threads)
{
#pragma omp parallel num_threads(threads)
    {
        real *sums = malloc(cells * TILE * sizeof *sums);
#pragma omp for schedule(static)
        for (integer number = 0; number < batch * tiles_of(channels); number++) {
            struct tile tile = find_tile(number, channels, starts);
            const real *in = x + (tile.image * channels + tile.first) * cells;
            const integer *label = labels + tile.image * cells;
            memset(sums, 0, tile.regions * TILE * sizeof *sums);
            for (integer part = 0; part < tile.width; part += LANES) {
                integer end = part + LANES < tile.width ? part + LANES : tile.width;
                for (integer cell = 0; cell < cells; cell++)
                    for (integer channel = part; channel < end; channel++)
                        sums[label[cell] * TILE + channel] += in[channel * cells + cell];
            }
            for (integer region = 0; region < tile.regions; region++) {
                real *out = means + (tile.start + region) * channels + tile.first;
                for (integer channel = 0; channel < tile.width; channel++)
                    out[channel] = sums[region * TILE + channel] / sizes[tile.start + region];
            }
        }
        free(sums);
    }
}

/* Gradient of x for that of the means. */
void spread_regions(const real *of_means, const integer *labels, const integer *starts,
                    const real *sizes, real *of_x, integer batch, integer channels, integer cells,
                    integer threads)
{
#pragma omp parallel num_threads(threads)
    {
        real *shares = malloc(cells * TILE * sizeof *shares);
#pragma omp for schedule(static)
        for (integer number = 0; number < batch * tiles_of(channels); number++) {
            struct tile tile = find_tile(number, channels, starts);
            real *out = of_x + (tile.image * channels + tile.first) * cells;
            const integer *label = labels + tile.image * cells;
            for (integer region = 0; region < tile.regions; region++) {
                const real *in = of_means + (tile.start + region) * channels + tile.first;
                for (integer channel = 0; channel < tile.width; channel++)
                    shares[region * TILE + channel] = in[channel] / sizes[tile.start + region];
            }
            for (integer channel = 0; channel < tile.width; channel++)
                for (integer cell = 0; cell < cells; cell++)
                    out[channel * cells + cell] = shares[label[cell] * TILE + channel];
        }
        free(shares);
    }
}

/* ---------------------------------------------------------- KAN layer: models/kan_blocks.py */

/* Quotients S of the highest degree, see models/bspline.py, at up to ROWS inputs of one channel;
   their number is returned. `offsets`: knots x ROWS, `quotients` and `spare`: as large. */
static const real *recursion(const real *x, int rows, const real *grid, int knots, int order,
                             real *offsets, real *quotients, real *spare)
{
    for (int knot = 0; knot < knots; knot++)
        for (int r = 0; r < rows; r++)
            offsets[knot * ROWS + r] = x[r] - grid[knot];
    if (order < 2) {
        real scale = 1;
        for (int j = 0; j + 1 < knots; j++) {
            if (order == 1)
                scale = 1 / (grid[j + 1] - grid[j]);
            for (int r = 0; r < rows; r++) {
                int inside = offsets[j * ROWS + r] >= 0 && offsets[(j + 1) * ROWS + r] < 0;
                quotients[j * ROWS + r] = inside ? scale : 0;
            }
        }
        return quotients;
    }
    /* Degree 1 has no jumps: differences of positions within intervals, clamped to 0..1. */
    for (int j = 0; j + 1 < knots; j++) {
        real scale = 1 / (grid[j + 1] - grid[j]);
        for (int r = 0; r < rows; r++) {
            real position = offsets[j * ROWS + r] * scale;
            position = position < 0 ? 0 : position;
            spare[j * ROWS + r] = position > 1 ? 1 : position;
        }
    }
    for (int j = 0; j + 2 < knots; j++)
        for (int r = 0; r < rows; r++)
            quotients[j * ROWS + r] = spare[j * ROWS + r] - spare[(j + 1) * ROWS + r];
    for (int degree = 2; degree <= order; degree++) {
        for (int j = 0; j + degree < knots; j++) {
            real scale = 1 / (grid[j + degree] - grid[j]);
            for (int r = 0; r < rows; r++)
                quotients[j * ROWS + r] *= scale;
        }
        if (degree == order)
            break;
        for (int j = 0; j + degree + 1 < knots; j++)
            for (int r = 0; r < rows; r++)
                spare[j * ROWS + r] =
                    offsets[j * ROWS + r] * quotients[j * ROWS + r] -
                    offsets[(j + degree + 1) * ROWS + r] * quotients[(j + 1) * ROWS + r];
        real *previous = quotients;
        quotients = spare;
        spare = previous;
    }
    return quotients;
}

/* Bases (channels, bases, rows) of x (channels, rows); knots are `stride` apart by channel. */
void kan_bases(const real *x, const real *grid, integer stride, real *bases, integer channels,
               integer rows, integer knots, integer order, integer threads)
{
    integer count = knots - order - 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer channel = 0; channel < channels; channel++) {
        real buffers[3 * knots * ROWS];
        real *offsets = buffers, *first = buffers + knots * ROWS, *second = first + knots * ROWS;
        for (integer start = 0; start < rows; start += ROWS) {
            int tile = rows - start < ROWS ? rows - start : ROWS;
            const real *s = recursion(x + channel * rows + start, tile, grid + channel * stride,
                                      knots, order, offsets, first, second);
            real *out = bases + channel * count * rows + start;
            for (integer j = 0; j < count; j++)
                for (int r = 0; r < tile; r++)
                    out[j * rows + r] =
                        order ? offsets[j * ROWS + r] * s[j * ROWS + r] -
                                    offsets[(j + order + 1) * ROWS + r] * s[(j + 1) * ROWS + r]
                              : s[j * ROWS + r];
        }
    }
}

/* Gradient of x (channels, rows) for that of its bases; the order is at least 1. */
void kan_slope(const real *x, const real *grid, integer stride, const real *of_bases, real *of_x,
               integer channels, integer rows, integer knots, integer order, integer threads)
{
    integer count = knots - order - 1;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer channel = 0; channel < channels; channel++) {
        real buffers[3 * knots * ROWS], sums[ROWS];
        real *offsets = buffers, *first = buffers + knots * ROWS, *second = first + knots * ROWS;
        for (integer start = 0; start < rows; start += ROWS) {
            int tile = rows - start < ROWS ? rows - start : ROWS;
            const real *s = recursion(x + channel * rows + start, tile, grid + channel * stride,
                                      knots, order, offsets, first, second);
            const real *in = of_bases + channel * count * rows + start;
            memset(sums, 0, sizeof sums);
            for (integer j = 0; j < count; j++)
                for (int r = 0; r < tile; r++)
                    sums[r] += (s[j * ROWS + r] - s[(j + 1) * ROWS + r]) * in[j * rows + r];
            for (int r = 0; r < tile; r++)
                of_x[channel * rows + start + r] = order * sums[r];
        }
    }
}

/* weight * scaler for some channels of a layer with `all` bases, of which the result has `bases`
   from `first` on, (out, channels, bases). Outputs of a layer are `width` channels apart. */
void kan_scale(const real *weight, const real *scaler, real *scaled, integer outputs,
               integer channels, integer width, integer first, integer bases, integer all,
               integer threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer output = 0; output < outputs; output++)
        for (integer channel = 0; channel < channels; channel++) {
            const real *in = weight + (output * width + channel) * all + first;
            real *out = scaled + (output * channels + channel) * bases;
            real factor = scaler[output * width + channel];
            for (integer j = 0; j < bases; j++)
                out[j] = in[j] * factor;
        }
}

/* Gradients of weight and scaler, each unless NULL, for that of their product. The weight's are
   written for all bases, of which the `bases` from `first` on have a gradient. */
void kan_unscale(const real *weight, const real *scaler, const real *of_scaled, real *of_weight,
                 real *of_scaler, integer outputs, integer channels, integer width,
                 integer first, integer bases, integer all, integer threads)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (integer output = 0; output < outputs; output++)
        for (integer channel = 0; channel < channels; channel++) {
            integer place = output * width + channel;
            const real *in = of_scaled + (output * channels + channel) * bases;
            if (of_weight) {
                real *out = of_weight + place * all, factor = scaler[place];
                for (integer j = 0; j < first; j++)
                    out[j] = 0;
                for (integer j = 0; j < bases; j++)
                    out[first + j] = in[j] * factor;
                for (integer j = first + bases; j < all; j++)
                    out[j] = 0;
            }
            if (of_scaler) {
                const real *own = weight + place * all + first;
                real sum = 0;
                for (integer j = 0; j < bases; j++)
                    sum += in[j] * own[j];
                of_scaler[place] = sum;
            }
        }
}
