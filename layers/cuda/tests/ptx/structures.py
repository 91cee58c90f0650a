"""The kernels' arguments as C lays them out: attend.cuh, exact_attention.cu, kde.h, kde_probability.cu, kde_samples.cu,
kde_attention.cu."""
import ctypes

pointer, size, integer, floating = ctypes.c_uint64, ctypes.c_uint64, ctypes.c_int32, ctypes.c_float
number_int = ctypes.c_int32


def structure(name, *fields):
    """Fields are (type, 'names of that type')."""
    return type(name, (ctypes.Structure,),
                {'_fields_': [(field, kind) for kind, fields_of_kind in fields for field in fields_of_kind.split()]})


Rows = structure('Rows', (pointer, 'data'), (size, 'image head row'), (integer, 'heads'))
Exact = structure('Exact', (Rows, 'q k v'), (pointer, 'out'), (size, 'out_image out_head out_row'),
                  (integer, 'heads queries key_count head_dim value_dim'), (floating, 'scale'))
KdeSizes = structure('KdeSizes', (integer, 'queries keys head_dim value_dim projections bucket blocks rows groups '
                                           'samples pilots'))
KdeMemory = structure('KdeMemory', (pointer, 'q_code k_code q_order k_order other k_position pilot_sum column mean '
                                             'gram vectors norm length probability weight sample_key sample_weight '
                                             'taken projection sample_uniform pilot_uniform'))
Pilots = structure('Pilots', (Rows, 'q'), (KdeSizes, 'sizes'), (pointer, 'q_order uniform'))
PilotSums = structure('PilotSums', (Pilots, 'pilots'), (Rows, 'k'), (pointer, 'sum'),
                      (integer, 'tiles head_dim value_dim'), (floating, 'scale'))
ColumnSquares = structure('ColumnSquares', (Pilots, 'pilots'), (Rows, 'k'), (pointer, 'sum column'),
                          (integer, 'tiles head_dim value_dim'), (floating, 'scale'))
Draw = structure('Draw', (KdeSizes, 'sizes'),
                 (pointer, 'probability weight k_order uniform sample_key sample_weight taken'))
Blocks = structure('Blocks', (Rows, 'q k v'), (KdeSizes, 'sizes'), (KdeMemory, 'memory'), (pointer, 'out'),
                   (size, 'out_image out_head out_row'), (integer, 'heads tiles head_dim value_dim'),
                   (floating, 'scale'))
