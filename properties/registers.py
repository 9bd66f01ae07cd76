def check_registers(*a,**k): raise NotImplementedError
